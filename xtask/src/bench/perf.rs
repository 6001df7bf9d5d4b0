// SPDX-License-Identifier: Apache-2.0
//! `perf record` on the sites of a recording.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{driven::file, sites::Sites};
use crate::command::run;

const TRACEFS: &str = "/sys/kernel/tracing";
/// What our events are called there.
const GROUP: &str = "buftrace_bench";
/// How long perf may take until it records.
const READY: Duration = Duration::from_secs(30);

/// perf, as it records a process.
pub(super) struct Perf {
    child: Child,
    /// Gives the events up when perf has ended.
    _events: Events,
}

impl Perf {
    /// Has it record a process into a file, with a copy of the stack where the recorder takes a stack.
    pub(super) fn start(pid: u32, sites: &Sites, output: &Path) -> Result<Self> {
        let events = Events::define(sites)?;
        let (orders, answers) = (fifo("perf-orders")?, fifo("perf-answers")?);
        let mut child = Command::new("perf")
            .args(["record", "--delay=-1", "-p", &pid.to_string(), "-o"])
            .arg(output)
            .arg(format!("--control=fifo:{},{}", file("perf-orders").display(), file("perf-answers").display()))
            .args(events.options(sites))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start perf")?;
        if !enable(orders, answers, &mut child)? {
            let said = child.wait_with_output()?.stderr;
            bail!("perf did not record: {}", String::from_utf8_lossy(&said).trim());
        }
        Ok(Self { child, _events: events })
    }

    /// Ends it: what it said.
    pub(super) fn stop(self) -> Result<String> {
        run(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        let output = self.child.wait_with_output()?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Has perf begin, and waits until it has; false if it ended instead.
fn enable(mut orders: File, mut answers: File, perf: &mut Child) -> Result<bool> {
    orders.write_all(b"enable\n")?;
    let deadline = Instant::now() + READY;
    let mut answer = [0; 16];
    while Instant::now() < deadline {
        if answers.read(&mut answer).is_ok_and(|bytes| bytes > 0) {
            return Ok(true);
        }
        if perf.try_wait()?.is_some() {
            return Ok(false);
        }
        sleep(Duration::from_millis(10));
    }
    perf.kill()?;
    Ok(false)
}

/// A new pipe with a name. Opened for both directions, which never waits for the other end.
fn fifo(name: &str) -> Result<File> {
    let path = file(name);
    let _ = fs::remove_file(&path);
    run(Command::new("mkfifo").arg(&path))?;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    opened.with_context(|| format!("failed to open {}", path.display()))
}

/// The sites as events of the kernel's, as long as this is there.
struct Events;

impl Events {
    fn define(sites: &Sites) -> Result<Self> {
        let file = Path::new(TRACEFS).join("uprobe_events");
        if !file.exists() {
            run(Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS])).context("there is no tracefs")?;
        }
        // Those of a run that was killed.
        forget();
        let defined = Self;
        for (number, site) in sites.sites.iter().enumerate() {
            let line = format!("p:{GROUP}/site{number} {}:{:#x}\n", sites.library.display(), site.offset);
            change(&line).with_context(|| format!("the kernel takes no `{}`", line.trim()))?;
        }
        Ok(defined)
    }

    /// What makes perf record them.
    fn options(&self, sites: &Sites) -> Vec<String> {
        let event = |(number, has_stack): (usize, bool)| {
            let stack = if has_stack { "/call-graph=dwarf/" } else { "" };
            ["-e".to_string(), format!("{GROUP}:site{number}{stack}")]
        };
        sites.sites.iter().map(|site| site.has_stack).enumerate().flat_map(event).collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        forget();
    }
}

/// Has the kernel forget our events; those that somebody still uses stay.
fn forget() {
    let defined = fs::read_dir(Path::new(TRACEFS).join("events").join(GROUP)).into_iter().flatten().flatten();
    for entry in defined.filter(|entry| entry.path().is_dir()) {
        let _ = change(&format!("-:{GROUP}/{}\n", entry.file_name().to_string_lossy()));
    }
}

fn change(line: &str) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open(Path::new(TRACEFS).join("uprobe_events"))?;
    Ok(file.write_all(line.as_bytes())?)
}
