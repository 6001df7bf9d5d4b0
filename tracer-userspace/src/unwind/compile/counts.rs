// SPDX-License-Identifier: Apache-2.0
//! What compiling came to: how much there was, and what could not be compiled and why.

/// What there was to compile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Functions, or parts of functions, with an entry of their own.
    pub functions: u64,
    /// Rows of these.
    pub read: u64,
    /// Rows of the tables.
    pub rows: u64,
    /// Of those read, how many could not be compiled, by [`Reason`].
    pub unsupported: [u64; Reason::ALL.len()],
}

/// Why a row could not be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The frame address is relative to a register other than the stack and base pointers.
    CfaRegister,
    /// An expression has none of the known shapes.
    Expression,
    /// The base pointer is not saved in memory in a way that a rule can say.
    BasePointer,
    /// The return address is not right below the frame address.
    ReturnAddress,
    /// The frame is marked as made by a signal, but not as the C library's is.
    SignalFrame,
    /// A number is too large for a rule.
    Offset,
    /// Entries for several functions claim the same code.
    Overlap,
    /// The section is not as it should be.
    Damaged,
    /// There are more rows, rules or addresses than a table can have.
    Limit,
}

impl Reason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::CfaRegister,
        Self::Expression,
        Self::BasePointer,
        Self::ReturnAddress,
        Self::SignalFrame,
        Self::Offset,
        Self::Overlap,
        Self::Damaged,
        Self::Limit,
    ];

    /// The reason in a few words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::CfaRegister => "frame found by another register",
            Self::Expression => "unknown expression",
            Self::BasePointer => "base pointer not in memory",
            Self::ReturnAddress => "return address elsewhere",
            Self::SignalFrame => "unknown signal frame",
            Self::Offset => "offset too large",
            Self::Overlap => "overlapping entries",
            Self::Damaged => "damaged entries",
            Self::Limit => "beyond a table's limits",
        }
    }
}

impl Counts {
    /// Adds those of another module.
    pub fn add(&mut self, other: &Self) {
        self.functions += other.functions;
        self.read += other.read;
        self.rows += other.rows;
        for (count, other) in self.unsupported.iter_mut().zip(other.unsupported) {
            *count += other;
        }
    }

    /// How often each reason occurred, those that did.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.unsupported).filter(|(_, count)| *count > 0)
    }
}
