// SPDX-License-Identifier: Apache-2.0
//! The page that `export --to html` writes, in a browser: it shows what the other commands say, and does what it offers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use buftrace::trace::{Item, Writer, text::parse};

use crate::{
    target::{lookalike_pytest, record},
    tool::{can_probe, number, path, root, run, stderr, text},
};

/// Whether there is a browser; says so and wants the test to return where there is none.
fn can_browse() -> bool {
    let found = xtask::command::exists("chromium");
    if !found {
        assert!(std::env::var_os("CI").is_none(), "CI must run the tests of the page: `apt-get install chromium`");
        eprintln!("skipped: a page needs a browser; `apt-get install chromium` brings one along");
    }
    found
}

fn write_trace(to: &Path, items: impl IntoIterator<Item = Item>) -> Result<()> {
    let mut writer = Writer::create(to)?;
    for item in items {
        writer.item(item);
    }
    writer.flush()
}

fn export(trace: &Path) -> Result<PathBuf> {
    let page = trace.with_extension("html");
    let output = run(&["export", "--to", "html", "-o", path(&page), path(trace)])?;
    if !output.status.success() {
        bail!("{}: {}", output.status, stderr(&output));
    }
    Ok(page)
}

/// Runs a script that drives the browser; what it finds wrong is the error.
fn drive(script: &str, arguments: &[&Path]) -> Result<String> {
    let script = root().join("tests/browser").join(script);
    let output = Command::new("python3").arg(script).args(arguments).output().context("failed to start python3")?;
    if !output.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_page_shows_what_the_views_say_and_can_be_used() -> Result<()> {
    if !can_probe() || !can_browse() {
        return Ok(());
    }
    let (target, trace) = record(lookalike_pytest("buffer", &["scenarios"]))?;
    let page = export(&trace)?;
    let views = ["report", "excess", "held"].map(|view| {
        let file = target.path(&format!("{view}.json"));
        let top: &[&str] = if view == "excess" { &[] } else { &["--top", "200"] };
        text(&[&[view, "--json", path(&trace)], top].concat())
            .and_then(|json| Ok(fs::write(&file, json)?))
            .map(|()| file)
    });
    let [report, excess, held] = views;
    drive("use.py", &[&page, &report?, &excess?, &held?])?;
    Ok(())
}

/// Names that end a script, begin an element, break lines where scripts do, and reorder what stands around them.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\\u{2028}\\u{202e}\\u{1b}[2J--><!--<script>";

#[test]
fn hostile_names_are_only_text_on_the_page() -> Result<()> {
    if !can_browse() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("hostile.ttb");
    let lines = format!(
        "process id=1 pid=7 command=\"{HOSTILE}\"\nmodule id=1 path=\"/lib/{HOSTILE}.so\"\ntext id=1 text=\"t.py::{HOSTILE} (call)\"\n\
         frame id=1 module=1 address=0x10\nsymbol frame=1 function=\"{HOSTILE}\" file=\"{HOSTILE}\" line=3\n\
         code id=1 function=\"{HOSTILE}\" file=\"{HOSTILE}\" first_line=3\npython-frame id=2 code=1 line=3\n\
         stack id=1 frames=1,2 end=complete python=complete\nproblem text=\"{HOSTILE}\"\n\
         event 1 t=4 p=1 tid=7 test-begin text=1\n\
         event 2 t=5 p=1 tid=7 stack=1 allocated uid=1 address=0xffffffffffffff00 size=64 owns=1 class=mesh\n\
         event 3 t=6 p=1 tid=7 stack=1 free uid=1 address=0xffffffffffffff00 size=64 status=1\n\
         event 4 t=7 p=1 tid=7 stack=1 released uid=1 address=0xffffffffffffff00 size=64 status=1 class=mesh\n\
         event 5 t=8 p=1 tid=7 stack=1 free uid=1 address=0xffffffffffffff00 size=64 status=2\n\
         event 6 t=9 p=1 tid=7 stack=1 allocated uid=18446744073709551615 address=0x100 size=18446744073709551615 owns=1 class=mesh\n\
         end process=1 time=20 reason=exited\n"
    );
    write_trace(&trace, parse(&lines)?)?;
    let page = export(&trace)?;
    let written = fs::read_to_string(&page)?;
    assert!(!written.contains("onerror"), "a name stands in the page as such");
    drive("hostile.py", &[&page])?;
    Ok(())
}

#[test]
fn a_trace_without_buffers_is_a_page_too() -> Result<()> {
    if !can_browse() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("empty.ttb");
    write_trace(&trace, parse("process id=1 pid=7\nend process=1 time=20 reason=exited\n")?)?;
    drive("empty.py", &[&export(&trace)?])?;
    Ok(())
}

const SITES: u32 = 60;
const TESTS: u32 = 300;
/// Nanoseconds between two allocations, and how many of these later an address is in use again.
const APART: u64 = 2000;
const ADDRESSES: u32 = 2000;

/// So many buffers in two memories, each allocated, freed and released; some freed again, some held; of many tests, sites
/// and sizes. The numbers are made by a fixed rule, so that all runs have the same.
fn many(lives: u32) -> impl Iterator<Item = Item> {
    let parsed = |text: &str| parse(text).expect("every line is an item");
    // Events by their time, and in the order in which they were made.
    let mut waiting: BTreeMap<(u64, u32), String> = BTreeMap::new();
    let (mut made, mut told, mut next) = (0, 0, 0);
    let events = std::iter::from_fn(move || {
        while next < lives && waiting.first_key_value().is_none_or(|((time, _), _)| *time >= u64::from(next) * APART) {
            for (time, line) in events_of(next, lives) {
                made += 1;
                waiting.insert((time, made), line);
            }
            next += 1;
        }
        let ((time, _), line) = waiting.pop_first()?;
        told += 1;
        Some(parsed(&format!("event {told} t={time} {line}")))
    });
    let end = format!("end process=1 time={} reason=exited\n", u64::from(lives) * APART + 5_000_000);
    parsed(&definitions()).into_iter().chain(events.flatten()).chain(parsed(&end))
}

fn definitions() -> String {
    let mut text = String::from("process id=1 pid=7 command=\"pytest tests\"\nborder process=1 next_unique_id=1\n");
    text += "module id=1 path=/lib/libtt_metal.so\n";
    for site in 1..=SITES {
        let (python, address) = (SITES + site, site * 16);
        text += &format!("frame id={site} module=1 address={address:#x}\n");
        text += &format!("symbol frame={site} function=\"model::Layer{site}::forward(int)\"\n");
        text += &format!("code id={site} function=\"Block{}.run\" file=/src/model.py first_line=1\n", site % 7);
        text += &format!("python-frame id={python} code={site} line={site}\n");
        text += &format!("stack id={site} frames={site},{python} end=complete python=complete\n");
    }
    for test in 1..=TESTS {
        text += &format!("text id={test} text=\"tests/test_model.py::test_layer[{test}] (call)\"\n");
    }
    text
}

/// What happens to one buffer, with the times.
fn events_of(life: u32, lives: u32) -> Vec<(u64, String)> {
    let random = u64::from(life).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let begin = u64::from(life) * APART;
    let end = begin + 1000 + random % (u64::from(ADDRESSES) * APART - 5000);
    let (uid, kind, site) = (life + 1, life % 2, 1 + random % u64::from(SITES));
    let (address, size) = (0x10_0000 + life % ADDRESSES * 0x4_0000, 2048 << (random % 8));
    let about =
        format!("p=1 tid=7 stack={site} type={kind} uid={uid} address={address:#x} size={size} class=mesh owns=1");
    let each = lives / TESTS + 1;
    let test = life.is_multiple_of(each).then(|| (begin, format!("test-begin p=1 tid=7 text={}", 1 + life / each)));
    let mut events: Vec<(u64, String)> = test.into_iter().collect();
    events.push((begin, format!("allocated {about}")));
    if life % 5000 != 17 {
        events.push((end, format!("free {about} status=1")));
        events.push((end + 1, format!("released {about} status=1")));
        if life % 1000 == 3 {
            events.push((end + 2, format!("free {about} status=2")));
        }
    }
    events
}

/// BUFTRACE_PAGE_LIVES raises the number to that of the claim: 500,000 lives, more than a million events.
#[test]
fn a_page_of_many_events_opens_at_once_and_follows_the_mouse() -> Result<()> {
    if !can_browse() {
        return Ok(());
    }
    let lives = number("BUFTRACE_PAGE_LIVES", 100_000);
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("many.ttb");
    write_trace(&trace, many(lives))?;
    let page = export(&trace)?;
    let report = folder.path().join("report.json");
    fs::write(&report, text(&["report", "--json", "--top", "200", path(&trace)])?)?;
    eprint!(
        "{} lives, a page of {} bytes: {}",
        lives,
        fs::metadata(&page)?.len(),
        drive("many.py", &[&page, &report])?
    );
    Ok(())
}
