// SPDX-License-Identifier: Apache-2.0
//! Where a recording probes: read from its trace, so that other tools can probe the same.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};

use crate::{object::OBJECT, recorder::each_line, root};

/// The probes of the library that has the buffers in it; those elsewhere are not hit by buffers.
#[derive(Clone, Debug)]
pub(super) struct Sites {
    /// The library's file.
    pub(super) library: PathBuf,
    /// Its probes.
    pub(super) sites: Vec<Site>,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Mangled name of the function.
    pub(super) symbol: String,
    /// Where it is in the file.
    pub(super) offset: u64,
    /// Whether the recorder takes a stack there.
    pub(super) has_stack: bool,
}

impl Sites {
    /// The sites of a recording, in which buffers were allocated and freed.
    pub(super) fn of(trace: &Path) -> Result<Self> {
        let mut lines = Vec::new();
        let mut with_stack = BTreeSet::new();
        each_line(trace, |line| match line.split_once(' ') {
            Some(("probe" | "module", _)) => lines.push(line.to_string()),
            Some(("event", _)) if field(line, "stack").is_some() => {
                // event NUMBER t=TIME p=PROCESS tid=THREAD KIND …
                with_stack.extend(line.split(' ').nth(5).map(str::to_string));
            }
            _ => {}
        })?;
        parse(&lines, &with_stack).with_context(|| format!("failed to find the probes of {}", trace.display()))
    }

    /// Probes them by a program that does nothing, until what it returns is dropped.
    pub(super) fn attach_empty(&self, pid: u32) -> Result<Ebpf> {
        let mut ebpf = EbpfLoader::new().map_max_entries("EVENTS", 4096).load_file(root().join(OBJECT))?;
        let program: &mut UProbe =
            ebpf.program_mut("empty").context("the object has no program `empty`")?.try_into()?;
        program.load()?;
        let pid = pid.try_into().context("0 is no process id")?;
        for site in &self.sites {
            let point = UProbeAttachPoint { location: UProbeAttachLocation::AbsoluteOffset(site.offset), cookie: None };
            program.attach(point, &self.library, UProbeScope::OneProcess(pid))?;
        }
        Ok(ebpf)
    }
}

fn parse(lines: &[String], with_stack: &BTreeSet<String>) -> Result<Sites> {
    let probes = || lines.iter().filter(|line| line.starts_with("probe ") && field(line, "missing").is_none());
    let free = probes().find(|line| field(line, "kind") == Some("free")).context("no probe for frees")?;
    let module = field(free, "module").context("the probe for frees is nowhere")?;
    let is_it = |line: &&String| line.starts_with("module ") && field(line, "id") == Some(module);
    let library = lines.iter().find(is_it).and_then(|line| field(line, "path")).context("no such module")?;
    let sites = probes().filter(|line| field(line, "module") == Some(module)).map(|line| {
        let offset = field(line, "offset").and_then(|text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok());
        Ok(Site {
            symbol: field(line, "symbol").context("a probe without a symbol")?.to_string(),
            offset: offset.context("a probe without an offset")?,
            has_stack: field(line, "kind").is_some_and(|kind| with_stack.contains(kind)),
        })
    });
    let sites: Vec<Site> = sites.collect::<Result<_>>()?;
    ensure!(sites.iter().any(|site| site.has_stack), "no event has a stack");
    Ok(Sites { library: library.into(), sites })
}

/// The value of a field in a line of a dump, without its quotes.
#[must_use]
pub(super) fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(' ').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 6] = [
        r#"module id=4 path="/a b/libtt_metal.so" build_id="75ec""#,
        r#"module id=42 path="/libc.so.6" build_id="93ac""#,
        r#"probe process=1 kind=request symbol="_ZN13allocate_implEv" module=4 offset=0x102a0"#,
        r#"probe id=3 process=1 kind=free symbol="_ZN15deallocate_implEv" module=4 offset=0x10320"#,
        r#"probe id=5 process=1 kind=marked symbol="_ZN4markEv" module=4 offset=0x1 missing="no such symbol""#,
        r#"probe id=11 process=1 kind=test-begin symbol="setenv" module=42 offset=0x413c0"#,
    ];

    #[test]
    fn the_sites_are_those_in_the_library_that_frees_buffers() -> Result<()> {
        let found = parse(&LINES.map(str::to_string), &BTreeSet::from(["free".to_string()]))?;
        assert_eq!(found.library, Path::new("/a b/libtt_metal.so"));
        let symbols: Vec<_> =
            found.sites.iter().map(|site| (site.symbol.as_str(), site.offset, site.has_stack)).collect();
        assert_eq!(symbols, [("_ZN13allocate_implEv", 0x102a0, false), ("_ZN15deallocate_implEv", 0x10320, true)]);
        Ok(())
    }

    #[test]
    fn a_trace_without_frees_is_refused() {
        assert!(parse(&LINES[..3].iter().map(ToString::to_string).collect::<Vec<_>>(), &BTreeSet::new()).is_err());
    }
}
