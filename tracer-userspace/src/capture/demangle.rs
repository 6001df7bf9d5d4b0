// SPDX-License-Identifier: Apache-2.0
//! Names of functions as they are in the source. A mangled name refers to its own parts, so that a few hundred bytes can
//! stand for gigabytes: what becomes too long stays mangled.

use std::fmt::{self, Write};

use cpp_demangle::DemangleOptions;

/// Most bytes of a name.
const LONGEST: usize = 1 << 16;

/// The name of a symbol, demangled if it is mangled by C++ or Rust.
pub(super) fn demangle(symbol: &str) -> String {
    let whole = symbol.len() <= LONGEST;
    let name = whole.then(|| rust(symbol).or_else(|| cpp(symbol))).flatten();
    name.unwrap_or_else(|| symbol[..symbol.floor_char_boundary(LONGEST)].to_owned())
}

fn rust(symbol: &str) -> Option<String> {
    let name = rustc_demangle::try_demangle(symbol).ok()?;
    let mut out = Bounded(String::new());
    write!(out, "{name:#}").ok()?;
    Some(out.0)
}

fn cpp(symbol: &str) -> Option<String> {
    let name = cpp_demangle::Symbol::new(symbol).ok()?;
    let mut out = Bounded(String::new());
    name.structured_demangle(&mut out, &DemangleOptions::default()).ok()?;
    Some(out.0)
}

/// A text that takes no more than [`LONGEST`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if LONGEST < self.0.len() + part.len() {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        // By c++filt and rustfilt.
        for (symbol, name) in [
            ("_ZN2tt8tt_metal6Buffer15deallocate_implEv", "tt::tt_metal::Buffer::deallocate_impl()"),
            ("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt"),
            ("la_cache_clear", "la_cache_clear"),
            ("_Znonsense", "_Znonsense"),
            ("", ""),
        ] {
            assert_eq!(demangle(symbol), name);
        }
    }

    #[test]
    fn a_name_that_doubles_itself_stays_as_it_is() {
        // f(P<P<…>, P<…>>): each level has the one before twice, by its number.
        let levels = 24;
        let mut symbol = "_Z1f1PIiiE".to_owned();
        for level in 0..levels {
            // In base 36, counted from the second on: S_ is `P`, S0_ is `P<int, int>`.
            let number = char::from_digit(level, 36).unwrap_or('0').to_ascii_uppercase();
            symbol.push_str(&format!("S_IS{number}_S{number}_E"));
        }
        assert_eq!(demangle(&symbol), symbol);
        let short = demangle("_Z1f1PIiiES_IS0_S0_E");
        assert_eq!(short, "f(P<int, int>, P<P<int, int>, P<int, int> >)");
        assert_eq!(demangle(&"a".repeat(LONGEST + 5)).len(), LONGEST);
    }
}
