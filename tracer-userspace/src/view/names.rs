// SPDX-License-Identifier: Apache-2.0
//! Names of C++ functions, short enough to read.

/// Template arguments longer than this are left out.
const LONG: usize = 24;

/// Shortens a demangled name: parameters become `(…)`, long template arguments `<…>`, and the standard library's
/// inline name spaces go. What does not balance is left as it is.
pub(super) fn shorten(name: &str) -> String {
    let name = name.replace("std::__1::", "std::").replace("std::__cxx11::", "std::");
    // `decltype(auto)`, `(anonymous namespace)` and `operator()` have parentheses that are no parameters.
    let plain = name.replace("(anonymous namespace)", "{anonymous}").replace("operator()", "operator{call}");
    let short = shorten_parameters(&shorten_templates(&plain));
    short.replace("{anonymous}", "(anonymous namespace)").replace("operator{call}", "operator()")
}

fn shorten_templates(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some(begin) = rest.find('<') {
        let (before, after) = rest.split_at(begin);
        out.push_str(before);
        match closing(after, '<', '>') {
            Some(end) if !before.ends_with("operator") && !before.ends_with("operator<") => {
                let inner = &after[1..end];
                out.push_str(if inner.chars().count() > LONG { "<…>" } else { &after[..=end] });
                rest = &after[end + 1..];
            }
            _ => {
                out.push('<');
                rest = &after[1..];
            }
        }
    }
    out + rest
}

fn shorten_parameters(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some(begin) = rest.find('(') {
        let (before, after) = rest.split_at(begin);
        let Some(end) = closing(after, '(', ')') else {
            break;
        };
        out.push_str(before);
        out.push_str(if end == 1 { "()" } else { "(…)" });
        rest = &after[end + 1..];
    }
    out + rest
}

/// Index of the closing bracket of the one that `text` begins with. The `>` of `->` is none.
fn closing(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0_usize;
    let mut last = ' ';
    for (index, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close && last != '-' {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(index);
            }
        }
        last = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_short() {
        for (name, short) in [
            ("main", "main"),
            ("tt::tt_metal::Buffer::~Buffer()", "tt::tt_metal::Buffer::~Buffer()"),
            ("f(int, std::__1::vector<int>)", "f(…)"),
            (
                "std::__1::vector<std::shared_ptr<tt::tt_metal::Buffer>, std::allocator<x>>::clear()",
                "std::vector<…>::clear()",
            ),
            ("std::vector<int>::at(unsigned long) const", "std::vector<int>::at(…) const"),
            ("(anonymous namespace)::go(int)", "(anonymous namespace)::go(…)"),
            (
                "A::operator()(int) const::{lambda()#1}::operator()() const",
                "A::operator()(…) const::{lambda()#1}::operator()() const",
            ),
            ("operator<(A, B)", "operator<(…)"),
            ("operator<<(A, B)", "operator<<(…)"),
            ("A::operator->()", "A::operator->()"),
            ("broken<(", "broken<("),
        ] {
            assert_eq!(shorten(name), short);
        }
    }
}
