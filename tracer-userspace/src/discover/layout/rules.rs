// SPDX-License-Identifier: Apache-2.0
//! Which function shows which field, and how. The only place that knows the target's functions by name and meaning.
//!
//! Argument numbers are those of the System V ABI: 0 is `this`, 6 and up are on the stack.

use super::{Generation, finding::Field};

/// `Buffer::allocate_impl`, up to tt-metal 0.78.
pub(super) const ALLOCATE_BUFFER: &str = "_ZN2tt8tt_metal6Buffer13allocate_implEv";
/// `BufferImpl::allocate_impl`, from tt-metal 0.79 on.
pub(super) const ALLOCATE_BUFFER_IMPL: &str = "_ZN2tt8tt_metal10BufferImpl13allocate_implERNS0_6BufferE";
/// `Buffer::deallocate_impl` and `BufferImpl::deallocate_impl`.
pub(super) const DEALLOCATE: [&str; 2] =
    ["_ZN2tt8tt_metal6Buffer15deallocate_implEv", "_ZN2tt8tt_metal10BufferImpl15deallocate_implERNS0_6BufferE"];
/// The counter that gives out unique ids.
pub(in crate::discover) const COUNTER: [&str; 2] =
    ["_ZN2tt8tt_metal6Buffer14next_unique_idE", "_ZN2tt8tt_metal10BufferImpl14next_unique_idE"];

/// `Allocator::allocate_buffer`, of either name that the class has had.
const ALLOCATOR_ALLOCATES: &[&str] = &[
    "_ZN2tt8tt_metal9Allocator15allocate_bufferEPNS0_6BufferE",
    "_ZN2tt8tt_metal13AllocatorImpl15allocate_bufferEPNS0_6BufferE",
];
/// `Allocator::deallocate_buffer`, likewise.
const ALLOCATOR_FREES: &[&str] = &[
    "_ZN2tt8tt_metal9Allocator17deallocate_bufferEPNS0_6BufferE",
    "_ZN2tt8tt_metal13AllocatorImpl17deallocate_bufferEPNS0_6BufferE",
];
/// The constructor up to its fifth argument; the later ones have changed over time.
pub(super) const CONSTRUCTORS: [&str; 2] = [
    "_ZN2tt8tt_metal6BufferC1EPNS0_7IDeviceEmmNS0_10BufferTypeE",
    "_ZN2tt8tt_metal10BufferImplC1EPNS0_7IDeviceEmmNS0_10BufferTypeE",
];
/// The rest of the constructor's name, as far as it makes `owns_data` its ninth argument.
pub(super) const OWNS_IS_ARGUMENT_8: &str =
    "RKNS0_18BufferShardingArgsESt8optionalIbES8_IN4ttsl10StrongTypeIhNS0_14SubDeviceIdTagEEEEb";

/// A function that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    /// A const member function without arguments, of this name.
    Getter(&'static str),
    /// `allocate_impl`
    Allocate,
    /// `deallocate_impl`
    Free,
    /// `deallocate`, which leaves buffers alone that own nothing.
    FreeIfOwner,
    /// `mark_as_deallocated`
    Mark,
    /// The constructor that all buffers come from.
    Constructor,
    /// The same, of a signature in which the ninth argument is `owns_data`.
    ConstructorWithOwns,
    /// `~Buffer`
    Destructor,
}

/// How a field shows itself in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It is returned.
    Returned,
    /// It is read with the field's own width.
    Read,
    /// It is compared, with this number if there is one here.
    Compared(Option<u64>),
    /// This number is written to it.
    Set(u64),
    /// It is written from this argument.
    SetFromArgument(u8),
    /// It is written from what one of these functions returned.
    SetFromResult(&'static [&'static str]),
    /// It is written from the previous value of the counter of unique ids.
    SetFromCounter,
    /// It is the first argument of one of these functions, or of any if there is none here.
    PassedTo(&'static [&'static str]),
    /// A virtual function of the object that it points to is called.
    CalledVirtually,
    /// It is divided.
    Dividend,
    /// Something is divided by it.
    Divisor,
}

/// One source of one field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The field.
    pub(super) field: Field,
    /// Where to look.
    pub(super) function: Function,
    /// For what.
    pub(super) evidence: Evidence,
    /// Whether the function's meaning leaves no other reading.
    pub(super) certain: bool,
}

const fn sure(field: Field, function: Function, evidence: Evidence) -> Rule {
    Rule { field, function, evidence, certain: true }
}

const fn hint(field: Field, function: Function, evidence: Evidence) -> Rule {
    Rule { field, function, evidence, certain: false }
}

/// The fields of `Buffer` or `BufferImpl`. A hint never means a field that stands before it here and is known by then.
pub(super) const RULES: &[Rule] = &[
    sure(Field::Device, Function::Getter("device"), Evidence::Returned),
    sure(Field::Device, Function::Constructor, Evidence::SetFromArgument(1)),
    hint(Field::Device, Function::Free, Evidence::CalledVirtually),
    hint(Field::Device, Function::Allocate, Evidence::CalledVirtually),
    sure(Field::Size, Function::Getter("size"), Evidence::Returned),
    sure(Field::Size, Function::Constructor, Evidence::SetFromArgument(2)),
    hint(Field::Size, Function::Getter("num_pages"), Evidence::Dividend),
    hint(Field::Size, Function::Free, Evidence::Compared(Some(0))),
    sure(Field::PageSize, Function::Getter("page_size"), Evidence::Returned),
    sure(Field::PageSize, Function::Constructor, Evidence::SetFromArgument(3)),
    hint(Field::PageSize, Function::Getter("num_pages"), Evidence::Divisor),
    sure(Field::BufferType, Function::Getter("buffer_type"), Evidence::Returned),
    sure(Field::BufferType, Function::Constructor, Evidence::SetFromArgument(4)),
    hint(Field::BufferType, Function::Getter("is_l1"), Evidence::Read),
    hint(Field::BufferType, Function::Getter("is_dram"), Evidence::Read),
    sure(Field::Allocator, Function::Allocate, Evidence::PassedTo(ALLOCATOR_ALLOCATES)),
    sure(Field::Allocator, Function::Free, Evidence::PassedTo(ALLOCATOR_FREES)),
    hint(Field::Allocator, Function::Getter("allocator"), Evidence::PassedTo(&[])),
    sure(Field::Address, Function::Getter("address"), Evidence::Returned),
    sure(Field::Address, Function::Allocate, Evidence::SetFromResult(ALLOCATOR_ALLOCATES)),
    sure(Field::UniqueId, Function::Getter("unique_id"), Evidence::Returned),
    sure(Field::UniqueId, Function::Constructor, Evidence::SetFromCounter),
    sure(Field::Status, Function::Getter("is_allocated"), Evidence::Compared(Some(1))),
    sure(Field::Status, Function::Mark, Evidence::Set(2)),
    hint(Field::Status, Function::Getter("address"), Evidence::Compared(Some(0))),
    hint(Field::Status, Function::Allocate, Evidence::Set(1)),
    hint(Field::Status, Function::Free, Evidence::Set(2)),
    hint(Field::Status, Function::Destructor, Evidence::Compared(Some(2))),
    sure(Field::Owns, Function::ConstructorWithOwns, Evidence::SetFromArgument(8)),
    hint(Field::Owns, Function::FreeIfOwner, Evidence::Compared(None)),
    hint(Field::Owns, Function::Destructor, Evidence::Compared(None)),
    hint(Field::Hooked, Function::Allocate, Evidence::Set(1)),
    hint(Field::Hooked, Function::Free, Evidence::Compared(Some(0))),
];

/// The member functions of `Buffer` that do nothing but look into its `BufferImpl`.
pub(super) const GETTERS: [&str; 11] = [
    "address",
    "allocator",
    "buffer_type",
    "device",
    "is_allocated",
    "is_dram",
    "is_l1",
    "num_pages",
    "page_size",
    "size",
    "unique_id",
];
/// `Buffer::impl()`, const and not.
pub(super) const IMPL: [&str; 2] = ["_ZNK2tt8tt_metal6Buffer4implEv", "_ZN2tt8tt_metal6Buffer4implEv"];
/// `Buffer::~Buffer`
pub(super) const DESTRUCTOR: &str = "_ZN2tt8tt_metal6BufferD1Ev";

impl Function {
    /// What it is called among the sources.
    pub(super) fn label(self) -> String {
        match self {
            Self::Getter(name) => format!("{name}()"),
            Self::Allocate => "allocate_impl".into(),
            Self::Free => "deallocate_impl".into(),
            Self::FreeIfOwner => "deallocate".into(),
            Self::Mark => "mark_as_deallocated".into(),
            Self::Constructor | Self::ConstructorWithOwns => "constructor".into(),
            Self::Destructor => "~Buffer".into(),
        }
    }

    /// The symbol, and whether its first argument is the `Buffer`; if not, it is what has the fields.
    pub(super) fn symbols(self, generation: Generation) -> Vec<(String, bool)> {
        let (class, extra) = match generation {
            Generation::Buffer => ("6Buffer", "v"),
            Generation::BufferImpl => ("10BufferImpl", "RNS0_6BufferE"),
        };
        let member = |name: &str, arguments: &str| format!("_ZN2tt8tt_metal{class}{}{name}E{arguments}", name.len());
        match self {
            Self::Getter(name) => vec![
                (format!("_ZNK2tt8tt_metal6Buffer{}{name}Ev", name.len()), true),
                (format!("_ZNK2tt8tt_metal10BufferImpl{}{name}Ev", name.len()), false),
            ],
            Self::Allocate => vec![(member("allocate_impl", extra), false)],
            Self::Free => vec![(member("deallocate_impl", extra), false)],
            Self::FreeIfOwner => vec![(member("deallocate", extra), false)],
            Self::Mark => vec![
                ("_ZN2tt8tt_metal6Buffer19mark_as_deallocatedEv".into(), true),
                ("_ZN2tt8tt_metal10BufferImpl19mark_as_deallocatedEv".into(), false),
            ],
            // Found by the beginning of their names.
            Self::Constructor | Self::ConstructorWithOwns => Vec::new(),
            Self::Destructor => vec![(DESTRUCTOR.into(), true)],
        }
    }
}
