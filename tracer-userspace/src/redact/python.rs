// SPDX-License-Identifier: Apache-2.0
//! Names of Python functions, and the ids of tests that are made of them.

use super::{Words, native, path};

/// What Python puts into qualified names by itself.
const OWN: [&str; 7] = ["<locals>", "<lambda>", "<module>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>"];
/// pytest writes them behind the id of a test.
const PHASES: [&str; 3] = [" (setup)", " (call)", " (teardown)"];

/// A qualified name. Operations of a graph capture have names of C++.
pub(super) fn function(words: &mut Words, name: &str) -> String {
    if name.contains("::") {
        return native::redact(words, name);
    }
    name.split('.').map(|part| identifier(words, part)).collect::<Vec<_>>().join(".")
}

/// A test's id: `folder/file.py::Class::function[parameters] (phase)`.
pub(super) fn test(words: &mut Words, id: &str) -> String {
    let phase = PHASES.into_iter().find(|phase| id.ends_with(phase)).unwrap_or("");
    let id = &id[..id.len() - phase.len()];
    // What is in brackets may look like anything.
    let (id, parameters) = match id.split_once('[') {
        Some((id, parameters)) => {
            (id, format!("[{}]", words.stand_in(parameters.strip_suffix(']').unwrap_or(parameters))))
        }
        None => (id, String::new()),
    };
    let mut parts = id.split("::");
    let file = path::redact(words, parts.next().unwrap_or_default()).text;
    let names: String = parts.map(|part| format!("::{}", identifier(words, part))).collect();
    format!("{file}{names}{parameters}{phase}")
}

fn identifier(words: &mut Words, name: &str) -> String {
    let special = name.starts_with("__") && name.ends_with("__") && is_special(name);
    match special || OWN.contains(&name) || name.is_empty() {
        true => name.to_owned(),
        false if name.starts_with("test_") => format!("test_{}", words.stand_in(name)),
        false => words.stand_in(name),
    }
}

/// Methods that the language calls.
fn is_special(name: &str) -> bool {
    ["call", "init", "new", "del", "enter", "exit", "getattr", "getitem", "setitem", "iter", "next", "torch_function"]
        .contains(&name.trim_matches('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_language_says_stays() {
        let mut words = super::super::Redactor::new(b"key").words;
        assert_eq!(function(&mut words, "<module>"), "<module>");
        let [model, step, inner] = ["Model", "step", "inner"].map(|name| words.stand_in(name));
        assert_eq!(function(&mut words, "Model.__call__"), format!("{model}.__call__"));
        assert_eq!(function(&mut words, "Model.step.<locals>.inner"), format!("{model}.{step}.<locals>.{inner}"));
        assert_ne!(function(&mut words, "__secret__"), "__secret__");
        assert_eq!(function(&mut words, "ttnn::matmul"), "ttnn::matmul");
    }

    #[test]
    fn tests_keep_their_structure() {
        let mut words = super::super::Redactor::new(b"key").words;
        let [folder, file, class, test_a, one] =
            ["a", "test_x", "TestX", "test_a", "one::two"].map(|it| words.stand_in(it));
        assert_eq!(
            test(&mut words, "a/test_x.py::TestX::test_a[one::two] (teardown)"),
            format!("{folder}/test_{file}.py::{class}::test_{test_a}[{one}] (teardown)")
        );
        assert_eq!(test(&mut words, ""), "");
    }
}
