// SPDX-License-Identifier: Apache-2.0
//! A redacted trace: no name is left in its bytes, and all commands read it.

use std::{fs, io::Read as _, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    target::{lookalike_pytest, record},
    tool::{can_probe, json, path, root, run, stderr, text},
};

/// How a frame of zstd's begins.
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// All that a trace holds: as it is, and what is compressed in it.
fn bytes(trace: &Path) -> Result<Vec<u8>> {
    let file = fs::read(trace)?;
    let mut bytes = file.clone();
    for at in (0..file.len()).filter(|&at| file[at..].starts_with(&ZSTD_MAGIC)) {
        zstd::stream::read::Decoder::with_buffer(&file[at..])?.single_frame().read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn holds(bytes: &[u8], word: &str) -> bool {
    let (bytes, word) = (bytes.to_ascii_lowercase(), word.to_ascii_lowercase());
    bytes.windows(word.len()).any(|part| part == word.as_bytes())
}

/// The numbers of a view, which names have no part in.
fn numbers(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Object(fields) => fields.values().flat_map(numbers).collect(),
        Value::Number(_) | Value::Bool(_) => vec![value],
        Value::Null | Value::String(_) => Vec::new(),
    }
}

#[test]
fn no_name_is_left_and_every_command_works() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (target, trace) = record(lookalike_pytest("pimpl", &["scenarios/test_excess.py"]))?;
    let redacted = target.path("redacted.ttb");
    assert_eq!(text(&["redact", path(&trace), "-o", path(&redacted), "--key", "of the test"])?, "");
    let [before, after] = [bytes(&trace)?, bytes(&redacted)?];
    // Folders, files, classes, functions, tests, and what only the look-alike calls so.
    let names = ["lookalike", "scenarios", "test_excess", "WeightCache", "release_entry", "offload_layer", "la_tensor"];
    // One folder alone may be called as a function is that everybody has, `main` for example.
    let folder = path(root());
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    for word in names.iter().chain([&folder]).chain([&host.trim()].into_iter().filter(|host| host.len() > 3)) {
        assert!(holds(&before, word), "`{word}` is no name of the trace");
        assert!(!holds(&after, word), "`{word}` is left");
    }
    for word in [
        "tt::tt_metal::BufferImpl::deallocate_impl(tt::tt_metal::Buffer&)",
        "libtt_metal.so",
        "libc.so.6",
        "_pytest",
        " (call)",
    ] {
        assert!(holds(&after, word), "`{word}` is gone");
    }

    let views: [&[&str]; 6] =
        [&["report"], &["excess"], &["held"], &["held", "--by", "test"], &["timeline", "--type", "DRAM"], &["dump"]];
    for view in views {
        let shown = text(&[view, &[path(&redacted)]].concat())?;
        assert!(!shown.is_empty() && names.iter().all(|name| !shown.contains(name)), "{shown}");
    }
    // Sites stay as many, each with its numbers; times are in none of these.
    let excess = [json(&["excess", path(&trace)])?, json(&["excess", path(&redacted)])?];
    let [sites, redacted_sites] = excess.each_ref().map(|view| view["sites"].as_array().map(Vec::len));
    assert_eq!((sites, redacted_sites), (Some(1), Some(1)));
    assert_eq!(numbers(&excess[0]), numbers(&excess[1]));
    let tests = |trace: &Path| -> Result<usize> {
        Ok(json(&["report", path(trace)])?["tests"].as_array().context("tests")?.len())
    };
    assert_eq!(tests(&trace)?, tests(&redacted)?);
    let check = |trace: &Path| run(&["check", path(trace), "--fail-on", "excess>1"]);
    assert_eq!(check(&trace)?.status.code(), check(&redacted)?.status.code());
    Ok(())
}

#[test]
fn traces_of_one_key_are_compared() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    let (target, trace) = record(lookalike_pytest("pimpl", &["scenarios/test_excess.py"]))?;
    let copy = |name: &str, key: &[&str]| -> Result<_> {
        let copy = target.path(name);
        text(&[&["redact", path(&trace), "-o", path(&copy)], key].concat())?;
        Ok(copy)
    };
    let one = copy("one.ttb", &["--key", "a"])?;
    let same = copy("same.ttb", &["--key", "a"])?;
    let other = copy("other.ttb", &[])?;
    let site =
        |trace: &Path| -> Result<Value> { Ok(json(&["excess", path(trace)])?["sites"][0]["site"]["id"].clone()) };
    assert!(site(&one)?.is_string());
    assert_eq!(site(&one)?, site(&same)?);
    assert_ne!(site(&one)?, site(&other)?);

    let refused = run(&["redact", path(&one), "-o", path(&one)])?;
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("can't be redacted in place"), "{}", stderr(&refused));
    assert_eq!(site(&one)?, site(&same)?);
    Ok(())
}
