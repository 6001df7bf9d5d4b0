// SPDX-License-Identifier: Apache-2.0
//! Names of C++ functions: short enough to read, and reduced to what a rebuild keeps.

use foldhash::HashMap;

use crate::model::{Line, LineKind};

/// Template arguments longer than this are left out.
const LONG: usize = 24;

/// The function of a line of a stack, short enough to be read; `?` if its name is not known.
#[must_use]
pub fn frame_name(line: &Line) -> String {
    match (line.kind, line.function.as_deref()) {
        (LineKind::Python, Some(name)) => name.to_owned(),
        (_, Some(name)) => shorten(name),
        (_, None) => "?".to_owned(),
    }
}

/// Shortens a demangled name: parameters become `(…)`, long template arguments `<…>`, and the standard library's
/// inline name spaces go. What does not balance is left as it is.
#[must_use]
pub fn shorten(name: &str) -> String {
    let short = |inner: &str| if inner.chars().count() > LONG { "<…>".to_owned() } else { format!("<{inner}>") };
    restore(&replace_parameters(&replace_templates(&protect(name), short), |empty| if empty { "()" } else { "(…)" }))
}

/// Reduces a demangled name to what a rebuild of the same source keeps, whatever the compiler: without parameters,
/// template arguments, return type and qualifiers, the numbers of lambdas, and what the optimizer appends.
pub(super) fn reduce(name: &str) -> String {
    let name = name.split(" [clone ").next().unwrap_or(name).replace("[abi:cxx11]", "");
    let bare = replace_parameters(&replace_templates(&protect(&name), |_| String::new()), |_| "");
    let bare = without_qualifiers(&without_lambda_numbers(&bare));
    let reduced = restore(without_return_type(without_clone_suffix(&bare)));
    if reduced.is_empty() { name } else { reduced }
}

/// One level of a qualified name: a name space, a class or a function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Its own name.
    pub(super) name: String,
    /// Its template arguments, without their brackets; empty if it has none.
    pub(super) arguments: String,
}

/// The levels of a demangled name, the outermost first: `void std::vector<A>::insert<B>(C)` is `std`, `vector` with `A`,
/// `insert` with `B`. Parameters, return type and qualifiers are left out.
pub(super) fn levels(name: &str) -> Vec<Level> {
    let name = without_tags(name.split(" [clone ").next().unwrap_or(name));
    let bare = without_lambda_numbers(&without_qualifiers(&replace_parameters(&protect(&name), |_| "")));
    let bare = without_return_type(without_clone_suffix(&bare));
    let level = |text: &str| {
        let (name, arguments) = text.split_once('<').unwrap_or((text, ""));
        let arguments = arguments.trim_end().strip_suffix('>').unwrap_or(arguments);
        Level { name: restore(name.trim_end()), arguments: restore(arguments) }
    };
    split(bare, "::").into_iter().map(level).collect()
}

/// Without the tags of the binary interface, `[abi:cxx11]` or `[abi:ne180100]`.
fn without_tags(name: &str) -> String {
    let mut parts = name.split("[abi:");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |name, part| name + part.split_once(']').map_or(part, |(_, rest)| rest))
}

/// Splits outside of template arguments.
pub(super) fn split<'a>(text: &'a str, by: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for at in outside(text) {
        if at >= begin && text[at..].starts_with(by) {
            parts.push(&text[begin..at]);
            begin = at + by.len();
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Where the characters are that are in no template brackets.
fn outside(text: &str) -> impl DoubleEndedIterator<Item = usize> {
    let (mut depth, mut last) = (0_usize, ' ');
    let mut places = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if last != '-' => depth = depth.saturating_sub(1),
            _ if depth == 0 => places.push(at),
            _ => {}
        }
        last = c;
    }
    places.into_iter()
}

/// What has brackets that enclose neither parameters nor template arguments, and what stands for it meanwhile.
const ANONYMOUS: (&str, &str) = ("(anonymous namespace)", "{anonymous}");
const OPERATORS: [(&str, &str); 7] = [
    ("operator()", "operator{call}"),
    ("operator<=>", "operator{compare}"),
    ("operator<<", "operator{left}"),
    ("operator<", "operator{less}"),
    ("operator->", "operator{arrow}"),
    ("operator>>", "operator{right}"),
    ("operator>", "operator{more}"),
];

/// Hides such brackets, and the standard library's inline name spaces.
fn protect(name: &str) -> String {
    let mut name = name.to_owned();
    // Most names have none of these, and to look once is faster than to replace each.
    if name.contains("std::__") {
        name = name.replace("std::__1::", "std::").replace("std::__cxx11::", "std::");
    }
    if name.contains(ANONYMOUS.0) {
        name = name.replace(ANONYMOUS.0, ANONYMOUS.1);
    }
    if name.contains("operator") {
        name = OPERATORS.iter().fold(name, |name, (brackets, word)| name.replace(brackets, word));
    }
    name
}

fn restore(name: &str) -> String {
    if !name.contains('{') {
        return name.to_owned();
    }
    let all = [ANONYMOUS].into_iter().chain(OPERATORS);
    all.fold(name.to_owned(), |name, (brackets, word)| name.replace(word, brackets))
}

/// GCC and Clang name the parts and copies of a function so, where its name is not mangled.
fn without_clone_suffix(name: &str) -> &str {
    let suffixes = [".cold", ".part.", ".isra.", ".constprop.", ".lto_priv.", ".llvm."];
    let end = suffixes.iter().filter_map(|suffix| name.find(suffix)).min();
    end.map_or(name, |end| &name[..end])
}

/// `{lambda()#2}`, `'lambda0'` and `$_3` are all `{lambda}`: their numbers move with the lines around them.
fn without_lambda_numbers(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let Some(mark) = ["{lambda", "{unnamed type", "'lambda", "$_"].iter().find(|mark| rest.starts_with(**mark))
        else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.push_str(if mark.starts_with("{unnamed") { "{unnamed}" } else { "{lambda}" });
        rest = rest[mark.len()..].trim_start_matches(|c: char| c == '#' || c.is_ascii_digit());
        rest = rest.strip_prefix(['}', '\'']).unwrap_or(rest);
    }
    out
}

fn without_qualifiers(name: &str) -> String {
    let mut name = name.to_owned();
    for word in [" const", " volatile", " noexcept", " &&", " &"] {
        name = name.replace(&format!("{word}::"), "::");
        name = name.strip_suffix(word).map(str::to_owned).unwrap_or(name);
    }
    name
}

/// A demangled template has its return type before it. A conversion operator has a type behind it.
fn without_return_type(name: &str) -> &str {
    let name = name.trim_end();
    let head = name.find("operator ").unwrap_or(name.len());
    let last = outside(&name[..head]).rev().find(|&at| name[at..].starts_with(' '));
    last.map_or(name, |space| &name[space + 1..])
}

fn replace_templates(name: &str, replacement: impl Fn(&str) -> String) -> String {
    let ends = closings(name, '<', '>');
    let mut out = String::new();
    let mut at = 0;
    while let Some(begin) = name[at..].find('<').map(|found| at + found) {
        out.push_str(&name[at..begin]);
        at = match ends.get(&begin) {
            Some(end) => {
                out.push_str(&replacement(&name[begin + 1..*end]));
                end + 1
            }
            None => {
                out.push('<');
                begin + 1
            }
        };
    }
    out + &name[at..]
}

fn replace_parameters(name: &str, replacement: impl Fn(bool) -> &'static str) -> String {
    let ends = closings(name, '(', ')');
    let mut out = String::new();
    let mut at = 0;
    while let Some(begin) = name[at..].find('(').map(|found| at + found) {
        let Some(end) = ends.get(&begin) else {
            break;
        };
        out.push_str(&name[at..begin]);
        out.push_str(replacement(*end == begin + 1));
        at = end + 1;
    }
    out + &name[at..]
}

/// Index of the closing bracket by that of the opening one, for those that have one. The `>` of `->` is none.
fn closings(text: &str, open: char, close: char) -> HashMap<usize, usize> {
    let mut waiting = Vec::new();
    let mut ends = HashMap::default();
    let mut last = ' ';
    for (index, c) in text.char_indices() {
        if c == open {
            waiting.push(index);
        } else if c == close && last != '-' {
            ends.extend(waiting.pop().map(|begin| (begin, index)));
        }
        last = c;
    }
    ends
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

    #[test]
    fn names_have_levels() {
        for (name, levels) in [
            ("main", &[("main", "")][..]),
            ("A::B<C::D, E<F>>::~B()", &[("A", ""), ("B", "C::D, E<F>"), ("~B", "")]),
            (
                "void std::__1::vector<A, std::__1::allocator<A>>::push_back<int>(A const&)",
                &[("std", ""), ("vector", "A, std::allocator<A>"), ("push_back", "int")],
            ),
            (
                "std::map<A, B>& f<C>(std::map<A, B>&)::{lambda(int)#2}::operator()(int) const",
                &[("f", "C"), ("{lambda}", ""), ("operator()", "")],
            ),
            ("A<(B)1, C -> D>::f()", &[("A", "1, C -> D"), ("f", "")]),
            ("A<B<C> >::f[abi:ne18]()", &[("A", "B<C> "), ("f", "")]),
            ("A<B::", &[("A", "B::")]),
            ("", &[("", "")]),
        ] {
            let found = super::levels(name);
            let found: Vec<_> = found.iter().map(|it| (it.name.as_str(), it.arguments.as_str())).collect();
            assert_eq!(found, levels, "{name}");
        }
    }

    #[test]
    fn long_names_take_no_longer_than_their_length() {
        // By the square of the length, each of these would take a minute.
        for part in ["a<", "a(", "$_", "{lambda", "a<b>", "operator<"] {
            let name = part.repeat(200_000);
            assert!(shorten(&name).len() <= name.len() && !reduce(&name).is_empty());
        }
    }

    #[test]
    fn names_are_reduced_to_what_a_rebuild_keeps() {
        for (name, reduced) in [
            ("main", "main"),
            ("la_cache_clear.part.0", "la_cache_clear"),
            ("f(int) [clone .cold]", "f"),
            ("tt::tt_metal::Buffer::~Buffer()", "tt::tt_metal::Buffer::~Buffer"),
            ("void std::__1::vector<int>::emplace_back<int>(int&&)", "std::vector::emplace_back"),
            ("std::vector<A<B>, C>::at(unsigned long) const", "std::vector::at"),
            ("f[abi:cxx11](int)", "f"),
            ("(anonymous namespace)::go(int)", "(anonymous namespace)::go"),
            ("A::run(int) const::{lambda(int)#12}::operator()(int) const", "A::run::{lambda}::operator()"),
            ("A::run()::$_3::operator()() const", "A::run::{lambda}::operator()"),
            ("A::run(int)::'lambda0'(int)::operator()(int) const", "A::run::{lambda}::operator()"),
            ("A::operator bool() const", "A::operator bool"),
            ("decltype(auto) std::visit<F>(F&&)", "std::visit"),
            ("bool operator< <int>(A<int>, B)", "operator<"),
            ("broken<(", "broken<("),
            ("", ""),
        ] {
            assert_eq!(reduce(name), reduced, "{name}");
        }
    }
}
