// SPDX-License-Identifier: Apache-2.0
//! Paths: what is installed on every machine keeps its name.

use super::Words;

/// Folders that tell nothing.
const FOLDERS: [&str; 16] = [
    "usr",
    "lib",
    "lib64",
    "local",
    "bin",
    "opt",
    "home",
    "tmp",
    "x86_64-linux-gnu",
    "site-packages",
    "dist-packages",
    "lib-dynload",
    "ttnn",
    "ttnn.libs",
    "tt_metal",
    "tests",
];
/// Packages whose files and functions everybody can read.
const PACKAGES: [&str; 22] = [
    "PIL",
    "_pytest",
    "accelerate",
    "click",
    "diffusers",
    "execnet",
    "huggingface_hub",
    "loguru",
    "numpy",
    "pluggy",
    "pytest",
    "pytest_forked",
    "pytest_timeout",
    "safetensors",
    "scipy",
    "torch",
    "torchvision",
    "tqdm",
    "tracy",
    "transformers",
    "ttnn",
    "xdist",
];
/// The same of Python's own modules, those that are found on stacks.
const STANDARD: [&str; 20] = [
    "asyncio",
    "collections",
    "concurrent",
    "contextlib",
    "ctypes",
    "functools",
    "importlib",
    "json",
    "lib-dynload",
    "logging",
    "multiprocessing",
    "pickle",
    "queue",
    "runpy",
    "selectors",
    "socketserver",
    "subprocess",
    "threading",
    "unittest",
    "weakref",
];
/// Libraries and programs of the system, all of whose functions are known.
const SYSTEM: [&str; 11] = [
    "ld",
    "libc",
    "libdl",
    "libffi",
    "libgcc_s",
    "libm",
    "libpthread",
    "libpython3",
    "libstdc++",
    "python3",
    "_ctypes",
];
/// Others that keep their names.
const LIBRARIES: [&str; 14] = [
    "_ttnn",
    "_ttnncpp",
    "libcrypto",
    "libdevice",
    "libhwloc",
    "libmpi",
    "libnuma",
    "libssl",
    "libtorch",
    "libtt_metal",
    "libtt_stl",
    "libttnn",
    "libz",
    "python",
];
/// Files that are in every project.
const FILES: [&str; 4] = ["__init__.py", "__main__.py", "conftest.py", "setup.py"];
/// What a file is, told by the end of its name.
const ENDS: [&str; 12] = [".py", ".so", ".cpp", ".cc", ".c", ".hpp", ".h", ".inl", ".log", ".json", ".ttb", ".txt"];

/// A path without names that are nobody else's.
pub(super) struct Path {
    pub(super) text: String,
    /// Whether it is a file of a package, or of Python itself, that everybody can read.
    pub(super) known: bool,
}

/// Whether all functions of a module are the system's.
pub(super) fn is_system(path: &str) -> bool {
    is_one_of(path.rsplit('/').next().unwrap_or(path), &SYSTEM)
}

pub(super) fn redact(words: &mut Words, path: &str) -> Path {
    if path.starts_with("<frozen ") && path.ends_with('>') {
        let module = path["<frozen ".len()..path.len() - 1].split('.').next().unwrap_or_default();
        if STANDARD.contains(&module) {
            return Path { text: path.to_owned(), known: true };
        }
    }
    let parts: Vec<&str> = path.split('/').collect();
    let public = public_from(&parts);
    let folders = parts.len() - 1;
    let mut text = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        text.push(match index {
            _ if public.is_some_and(|public| index >= public) => (*part).to_owned(),
            _ if index < folders => folder(words, part),
            _ => file(words, part),
        });
    }
    Path { text: text.join("/"), known: public.is_some() }
}

/// From which part on a path is that of a known package, or of Python's own library.
fn public_from(parts: &[&str]) -> Option<usize> {
    let installed = parts.iter().rposition(|part| matches!(*part, "site-packages" | "dist-packages"));
    let (folder, known) = match installed {
        Some(folder) => (folder, &PACKAGES[..]),
        None => (parts.windows(2).rposition(|pair| pair[0] == "lib" && is_python(pair[1]))? + 1, &STANDARD[..]),
    };
    let module = parts.get(folder + 1)?;
    known.contains(&module.strip_suffix(".py").unwrap_or(module)).then_some(folder + 1)
}

fn is_python(part: &str) -> bool {
    part.strip_prefix("python3.").is_some_and(|minor| !minor.is_empty() && minor.chars().all(|c| c.is_ascii_digit()))
}

fn folder(words: &mut Words, part: &str) -> String {
    match FOLDERS.contains(&part) || is_python(part) || matches!(part, "." | "..") {
        true => part.to_owned(),
        false => words.stand_in(part),
    }
}

fn file(words: &mut Words, part: &str) -> String {
    if FILES.contains(&part) || FOLDERS.contains(&part) || is_one_of(part, &SYSTEM) || is_one_of(part, &LIBRARIES) {
        return part.to_owned();
    }
    // A library's version is behind its end, and says little.
    let library = part.find(".so.").map(|at| (&part[..at], ".so"));
    let end = || ENDS.iter().find_map(|end| Some((part.strip_suffix(end)?, *end)));
    let (name, end) = library.or_else(end).unwrap_or((part, ""));
    let begin = if name.starts_with("test_") { "test_" } else { "" };
    // A sentence may name the file without its folder.
    words.hide(part);
    format!("{begin}{}{end}", words.stand_in(name))
}

/// Whether a file has one of these names, with nothing behind it but versions, platforms and a wheel's digest.
fn is_one_of(file: &str, names: &[&str]) -> bool {
    let end = file.find(['.', '-']).unwrap_or(file.len());
    let (name, rest) = file.split_at(end);
    let digest = |word: &str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let known = |word: &str| {
        let number = word.bytes().all(|byte| byte.is_ascii_digit());
        number || digest(word) || ["so", "cpython", "linux", "x86", "gnu", "abi3"].contains(&word)
    };
    names.contains(&name) && rest.split(['.', '-', '_']).all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_has_keeps_its_name() {
        let mut words = super::super::Redactor::new(b"key").words;
        for path in [
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "/usr/lib/libstdc++.so.6.0.30",
            "/usr/lib/python3.12/lib-dynload/_ctypes.cpython-312-x86_64-linux-gnu.so",
            "/usr/lib/python3.12/site-packages/ttnn.libs/libnuma-3f2a91bc.so.1.0.0",
            "/usr/lib/python3.12/site-packages/_pytest/python.py",
            "/usr/lib/python3.12/threading.py",
            "<frozen importlib._bootstrap>",
            "/usr/bin/python3.12",
            "",
        ] {
            assert_eq!(redact(&mut words, path).text, path);
        }
        assert!(words.hidden.is_empty(), "{:?}", words.hidden);
    }

    #[test]
    fn what_looks_like_it_does_not() {
        let mut words = super::super::Redactor::new(b"key").words;
        for path in [
            "/srv/x",
            "libc-secret.so",
            "libsecret.so.1",
            "/usr/lib/python3.12/secret.py",
            "/usr/lib/python3.12/site-packages/secret/torch/a.py",
            "<frozen secret>",
            "<secret torch>",
            "/python3.secret/a",
            "test_secret.py",
        ] {
            let Path { text, known } = redact(&mut words, path);
            assert!(!known && !text.contains("secret") && !text.contains("srv"), "{path}: {text}");
        }
    }
}
