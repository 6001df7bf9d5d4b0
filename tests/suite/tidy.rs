// SPDX-License-Identifier: Apache-2.0
//! What ARCHITECTURE.md claims of the source, checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::tool::root;

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace can be read") {
        let path = entry.expect("a folder of the workspace can be read").path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
}

fn sources(folders: &[&str], extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in folders {
        files(&root().join(folder), extension, &mut found);
    }
    assert!(!found.is_empty(), "no {extension} files in {folders:?}");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        (path.strip_prefix(root()).expect("it is below the root").to_path_buf(), text)
    };
    found.into_iter().map(read).collect()
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

const CODE: [&str; 7] =
    ["tracer-common/src", "tracer-unwind/src", "tracer-ebpf/src", "tracer-userspace/src", "xtask/src", "tests", "fuzz"];

#[test]
fn every_file_names_its_licence_and_says_what_it_is() {
    for (path, text) in sources(&CODE, "rs") {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("// SPDX-License-Identifier: Apache-2.0"), "{}", path.display());
        assert!(lines.next().is_some_and(|line| line.starts_with("//! ")), "{} says not what it is", path.display());
    }
    for (path, text) in sources(&["tests", "python"], "py") {
        let head = text.lines().take(2).any(|line| line == "# SPDX-License-Identifier: Apache-2.0");
        assert!(head, "{}", path.display());
    }
}

#[test]
fn what_reads_a_trace_knows_no_process_and_no_kernel() {
    let readers = ["trace", "import", "redact", "model", "analysis", "view", "live", "export"]
        .map(|name| format!("tracer-userspace/src/{name}"));
    for (path, text) in sources(&readers.each_ref().map(String::as_str), "rs") {
        for word in ["aya", "tokio", "crate::capture", "crate::discover", "crate::unwind", "/proc/"] {
            assert!(!without_comments(&text).contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn imports_model_analyses_and_views_do_no_io() {
    let pure =
        ["import", "redact", "model", "analysis", "view", "live"].map(|name| format!("tracer-userspace/src/{name}"));
    for (path, text) in sources(&pure.each_ref().map(String::as_str), "rs") {
        for word in ["std::fs", "File::", "println!", "eprintln!", "std::process", "std::env"] {
            assert!(!without_comments(&text).contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn only_the_command_line_knows_clap_and_only_recording_knows_aya() {
    for (path, text) in sources(&["tracer-userspace/src"], "rs") {
        let path = path.to_string_lossy();
        let text = without_comments(&text);
        if !path.contains("/cli") && !path.ends_with("/main.rs") {
            assert!(!text.contains("clap"), "{path} names clap");
        }
        if !path.contains("/capture/") {
            assert!(!text.contains("aya::") && !text.contains("tokio::"), "{path} names aya or tokio");
        }
    }
}

#[test]
fn no_folder_is_called_by_what_anything_could_be() {
    let mut found = Vec::new();
    for folder in CODE {
        files(&root().join(folder), "rs", &mut found);
    }
    for path in found {
        for part in ["util", "utils", "shared", "support", "misc", "helpers", "common"] {
            let inside = path.strip_prefix(root()).expect("it is below the root");
            let named = inside.components().skip(1).any(|it| it.as_os_str() == part)
                || inside.file_stem().is_some_and(|stem| stem == part);
            assert!(!named, "{}: a name that says nothing", inside.display());
        }
    }
}
