// SPDX-License-Identifier: Apache-2.0
//! What a function was seen to do.

use super::value::{Place, Value};

/// One thing that a function does on some path, with operands that are the same on every path that leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// Reads a place.
    Load(Place),
    /// Writes a place.
    Store(Place, Value),
    /// Compares what was read from a place, with a number where there is one.
    Compare(Place, Option<u64>),
    /// Divides the first by the second.
    Divide(Value, Value),
    /// Calls, or jumps to, another function.
    Call(Call),
    /// Returns this.
    Return(Value),
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Address of the instruction.
    pub(super) at: u64,
    /// What is called.
    pub(super) target: Target,
    /// The values of the six argument registers.
    pub(super) arguments: [Value; 6],
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A function of this name; several where several names have one address.
    Function(Vec<String>),
    /// The virtual function at `slot` bytes into the vtable of an object.
    Virtual {
        /// The object.
        object: Value,
        /// Offset from where the object's first word points to.
        slot: u64,
    },
    /// Something else.
    Unknown,
}

impl Target {
    /// Whether this is a function that never returns, by the names that compilers and this target give to such.
    pub(super) fn never_returns(&self) -> bool {
        const EXACT: [&str; 7] = [
            "abort",
            "_Unwind_Resume",
            "__assert_fail",
            "__stack_chk_fail",
            "__clang_call_terminate",
            "_ZSt9terminatev",
            "__cxa_rethrow",
        ];
        let Self::Function(names) = self else {
            return false;
        };
        // tt_throw, __cxa_throw, std::__throw_length_error, std::__glibcxx_assert_fail, …
        names.iter().any(|name| {
            EXACT.contains(&name.as_str()) || name.contains("_throw") || name.contains("glibcxx_assert_fail")
        })
    }
}
