// SPDX-License-Identifier: Apache-2.0
//! Names of C++ functions: what is in an open name space stays, with foreign types among its parameters replaced.

use super::Words;

/// Name spaces that everybody can read.
const ROOTS: [&str; 18] = [
    "__cxxabiv1",
    "__gnu_cxx",
    "at",
    "boost",
    "c10",
    "fmt",
    "nanobind",
    "nlohmann",
    "pybind11",
    "std",
    "tf",
    "torch",
    "tracy",
    "tt",
    "tt_stl",
    "ttnn",
    "ttsl",
    "umd",
];
/// Words of the language and of demanglers, and what runs a program.
const PLAIN: [&str; 47] = [
    "_start",
    "abi",
    "anonymous",
    "auto",
    "bool",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "clone",
    "cold",
    "const",
    "constprop",
    "cxx11",
    "decltype",
    "delete",
    "double",
    "enum",
    "false",
    "float",
    "for",
    "guard",
    "int",
    "isra",
    "lambda",
    "long",
    "main",
    "namespace",
    "new",
    "noexcept",
    "non",
    "operator",
    "part",
    "short",
    "signed",
    "struct",
    "thunk",
    "to",
    "true",
    "type",
    "unnamed",
    "unsigned",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
];

/// Replaces each identifier, unless the qualified name that it is a part of begins in a known name space.
pub(super) fn redact(words: &mut Words, name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    // Whether the qualified name at hand is known, and those around it, by brackets.
    let (mut known, mut around) = (false, Vec::new());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            _ if is_part(c) => {
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let identifier = &rest[..end];
                if !out.ends_with("::") && !out.ends_with("::~") {
                    known = ROOTS.contains(&identifier) && rest[end..].starts_with("::");
                }
                match known || is_plain(identifier) {
                    true => out.push_str(identifier),
                    false => out.push_str(&words.stand_in(identifier)),
                }
                let symbol = if identifier == "operator" { operator(&rest[end..]) } else { 0 };
                out.push_str(&rest[end..end + symbol]);
                end + symbol
            }
            '<' | '(' | '{' | '[' => {
                around.push(known);
                known = false;
                out.push(c);
                1
            }
            _ => {
                if matches!(c, '>' | ')' | '}' | ']') {
                    known = around.pop().unwrap_or(false);
                }
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    out
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Numbers, too, and the names that compilers give to lambdas.
fn is_plain(identifier: &str) -> bool {
    let bare = identifier.trim_end_matches(|c: char| c.is_ascii_digit());
    PLAIN.contains(&identifier)
        || matches!(bare, "" | "$_" | "lambda")
        || identifier.starts_with(|c: char| c.is_ascii_digit()) && identifier.len() < 24
}

/// Bytes of an operator's symbol: its brackets enclose nothing.
fn operator(rest: &str) -> usize {
    match rest.starts_with("()") || rest.starts_with("[]") {
        true => 2,
        false => rest.find(|c: char| !"<>=+-*/%^&|~!,".contains(c)).unwrap_or(rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_name_spaces_stay() {
        let mut words = super::super::Redactor::new(b"key").words;
        for name in [
            "tt::tt_metal::Buffer::~Buffer()",
            "tt::tt_metal::distributed::MeshBuffer::create(std::variant<int, unsigned long> const&, bool)",
            "std::operator<< <char>(std::basic_ostream<char>&)",
            "bool std::operator<(std::pair<int, int>)",
            "std::__1::function<void (int)>::operator()(int) const",
            "tt::run(int)::{lambda(int)#2}::operator()(int) const [clone .cold]",
            "tt::run()::$_3::operator()() const",
            "(anonymous namespace)",
            "std::array<int, 8ul>::at(unsigned long)",
            "main",
            "",
        ] {
            assert_eq!(redact(&mut words, name), name);
        }
    }

    #[test]
    fn others_go_wherever_they_stand() {
        let mut words = super::super::Redactor::new(b"key").words;
        for (name, shape) in [
            ("secret", "X"),
            ("secret::tt::Buffer::~Buffer()", "X::X::X::~X()"),
            ("std::vector<secret::A>::at(secret::A const&)", "std::vector<X::X>::at(X::X const&)"),
            ("tt::f(int)::{lambda(secret)#1}::operator()()", "tt::f(int)::{lambda(X)#1}::operator()()"),
            ("(anonymous namespace)::secret(int)", "(anonymous namespace)::X(int)"),
            ("secret::operator<(std::string)", "X::operator<(std::string)"),
            ("secret<std::string>::at()", "X<std::string>::X()"),
            ("tt::Tool::operator->()::secret", "tt::Tool::operator->()::secret"),
            ("_ZN6secret", "X"),
            ("std", "X"),
            (">>secret<<", ">>X<<"),
        ] {
            let redacted = redact(&mut words, name);
            let shown = words.hidden.clone().into_iter().chain(["A", "at", "tt"].map(str::to_owned));
            let shown = shown.fold(redacted, |text, hidden| text.replace(&words.stand_in(&hidden), "X"));
            assert_eq!(shown, shape, "{name}");
        }
    }
}
