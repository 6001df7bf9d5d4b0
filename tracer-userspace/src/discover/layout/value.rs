// SPDX-License-Identifier: Apache-2.0
//! What a register can hold while a function is read: a value named by where it came from.

use std::rc::Rc;

/// Longest chain of loads that is followed (`a->b->c`); what lies beyond is unknown.
const DEEPEST: usize = 4;

/// Where a value came from, or that nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Anything.
    Unknown,
    /// The n-th integer argument of the function, from 0 (`rdi`); from 6 on they come on the stack.
    Argument(u8),
    /// A number.
    Constant(u64),
    /// A fixed address in the module.
    Static(u64),
    /// The stack pointer at entry plus this.
    Stack(i64),
    /// A value plus a number.
    Sum(Rc<Value>, i64),
    /// What was read from a place.
    Loaded(Rc<Place>),
    /// What a place held before an atomic addition changed it.
    Counted(Rc<Place>),
    /// What the call at this address returned.
    Result(u64),
}

/// A place in memory, as the code names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The pointer.
    pub(super) base: Value,
    /// What is added to it.
    pub(super) offset: i64,
    /// How many bytes are read or written.
    pub(super) width: u8,
}

impl Value {
    /// What is read from a place.
    pub(super) fn loaded(place: Place) -> Self {
        match place.base.depth() < DEEPEST {
            true => Self::Loaded(Rc::new(place)),
            false => Self::Unknown,
        }
    }

    /// This value plus a number.
    pub(super) fn plus(&self, number: i64) -> Self {
        match self {
            _ if number == 0 => self.clone(),
            Self::Unknown => Self::Unknown,
            Self::Constant(value) => Self::Constant(value.wrapping_add_signed(number)),
            Self::Static(address) => Self::Static(address.wrapping_add_signed(number)),
            Self::Stack(offset) => Self::Stack(offset.wrapping_add(number)),
            Self::Sum(base, offset) => match offset.wrapping_add(number) {
                0 => (**base).clone(),
                offset => Self::Sum(Rc::clone(base), offset),
            },
            Self::Argument(_) | Self::Loaded(_) | Self::Counted(_) | Self::Result(_) => {
                Self::Sum(Rc::new(self.clone()), number)
            }
        }
    }

    /// The place that this value points to.
    pub(super) fn at(&self, width: u8) -> Option<Place> {
        match self {
            Self::Unknown | Self::Constant(_) => None,
            Self::Sum(base, offset) => Some(Place { base: (**base).clone(), offset: *offset, width }),
            _ => Some(Place { base: self.clone(), offset: 0, width }),
        }
    }

    /// Where this value was read, if it was.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Loaded(place) => Some(place),
            _ => None,
        }
    }

    fn depth(&self) -> usize {
        let mut depth = 0;
        let mut value = self;
        loop {
            value = match value {
                Self::Loaded(place) | Self::Counted(place) => &place.base,
                Self::Sum(base, _) => base,
                _ => return depth,
            };
            depth += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_kept_flat() {
        let this = Value::Argument(0);
        assert_eq!(this.plus(8).plus(8), this.plus(16));
        assert_eq!(this.plus(8).plus(-8), this);
        assert_eq!(this.plus(16).at(4), Some(Place { base: this, offset: 16, width: 4 }));
    }

    #[test]
    fn a_chain_of_loads_ends_somewhere() {
        let mut value = Value::Argument(0);
        for _ in 0..100_000 {
            let Some(place) = value.at(8) else { return };
            value = Value::loaded(place);
        }
        panic!("the chain grew without bound");
    }
}
