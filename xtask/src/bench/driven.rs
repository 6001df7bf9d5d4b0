// SPDX-License-Identifier: Apache-2.0
//! Targets that do as they are told, line by line.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{command::run, python, root};

/// The release of ttnn that is measured.
pub(super) const TTNN: &str = "0.81.1";
/// What an answer begins with; all else is the target's own output.
const ANSWER: &str = "took ";

/// A process that answers each line of its input.
pub(super) struct Driven {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Driven {
    /// Starts it.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start the target")?;
        let orders = child.stdin.take().context("the target has no input")?;
        let answers = BufReader::new(child.stdout.take().context("the target has no output")?);
        Ok(Self { child, orders, answers })
    }

    /// Process id.
    #[must_use]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do something: the numbers that it answers when it is done.
    pub(super) fn ask(&mut self, order: &str) -> Result<Vec<f64>> {
        self.tell(order)?;
        self.answer()
    }

    /// Has it begin to do something.
    pub(super) fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").context("the target has ended")
    }

    /// Waits for the answer to the oldest order without one.
    pub(super) fn answer(&mut self) -> Result<Vec<f64>> {
        let mut line = String::new();
        while self.answers.read_line(&mut line).context("failed to read the target's output")? > 0 {
            if let Some(numbers) = line.strip_prefix(ANSWER) {
                let numbers = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>();
                return numbers.with_context(|| format!("the target answered {line:?}"));
            }
            line.clear();
        }
        bail!("the target ended before it answered")
    }

    /// Ends it.
    pub(super) fn end(self) -> Result<()> {
        let Self { mut child, orders, answers } = self;
        drop(orders);
        // What it says at its end is read, so that it never waits for us.
        answers.lines().for_each(drop);
        let status = child.wait()?;
        ensure!(status.success(), "the target ended with {status}");
        Ok(())
    }
}

/// Which target allocates and frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    /// The look-alike, which does nothing else.
    Lookalike,
    /// The real one, on mock chips.
    Ttnn,
}

/// Pairs of an allocation and a free to make.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    /// How many at most.
    pub(super) pairs: u64,
    /// How long at most; 0 for as long as it takes.
    pub(super) seconds: u64,
    /// How many a second; 0 for as fast as can be.
    pub(super) rate: u64,
    /// How far to count after each.
    pub(super) work: u64,
    /// How many of a hundred come from a new stack.
    pub(super) fresh: u64,
}

impl Order {
    fn text(self) -> String {
        let Self { pairs, seconds, rate, work, fresh } = self;
        format!(r#"{{"pairs": {pairs}, "seconds": {seconds}, "rate": {rate}, "work": {work}, "fresh": {fresh}}}"#)
    }
}

/// What pairs took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// How many there were.
    pub(super) pairs: f64,
    /// Nanoseconds of each by the clock.
    pub(super) wall: f64,
    /// Nanoseconds of processor time of each, with the kernel's.
    pub(super) cpu: f64,
    /// Of that, without the work after each; 0 if there is none.
    pub(super) inside: f64,
}

impl Took {
    /// Allocations and frees a second.
    pub(super) fn rate(&self) -> f64 {
        2e9 / self.wall
    }
}

/// A pytest session, one test of which makes pairs as it is told.
pub(super) struct Pairs(Driven);

impl Pairs {
    /// Starts it, with more files mapped than it needs, and waits until all is loaded and the mesh is open.
    pub(super) fn start(library: Library, chips: u32, mapped: &[PathBuf]) -> Result<Self> {
        let mut command = match library {
            Library::Lookalike => {
                let built = lookalike()?;
                let mut command = Command::new(python::with_pytest()?);
                command.arg("-m").arg("pytest").arg(root().join("tests/lookalike/ordered/test_pairs.py"));
                command.env("LOOKALIKE_LIBRARY", built);
                command
            }
            Library::Ttnn => {
                let (folder, _) = python::with_ttnn(TTNN)?;
                let mut command = Command::new("bash");
                command.args(["-c", r#"source "$0/env" && exec python -m pytest "$@""#]).arg(folder);
                command.arg(root().join("tests/ttnn/ordered/test_pairs.py"));
                command
            }
        };
        let mapped: Vec<_> = mapped.iter().map(|path| path.to_string_lossy()).collect();
        command
            .args(["-s", "-q", "-p", "no:cacheprovider"])
            .env("BUFTRACE_CHIPS", chips.to_string())
            .env("BUFTRACE_MAPPED", mapped.join(":"));
        let mut pairs = Self(Driven::start(&mut command)?);
        pairs.make(Order { pairs: 1, ..Order::default() })?;
        Ok(pairs)
    }

    /// Process id.
    #[must_use]
    pub(super) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Makes pairs: what each took.
    pub(super) fn make(&mut self, order: Order) -> Result<Took> {
        self.begin(order)?;
        self.finish()
    }

    /// Begins to make pairs.
    pub(super) fn begin(&mut self, order: Order) -> Result<()> {
        self.0.tell(&order.text())
    }

    /// Waits until pairs are made that were begun.
    pub(super) fn finish(&mut self) -> Result<Took> {
        match self.0.answer()?[..] {
            [pairs, wall, cpu, inside] if pairs > 0.0 => {
                Ok(Took { pairs, wall: wall / pairs, cpu: cpu / pairs, inside: inside / pairs })
            }
            _ => bail!("the target did not answer how many pairs it made, and what they took"),
        }
    }

    /// Ends it.
    pub(super) fn end(self) -> Result<()> {
        self.0.end()
    }
}

/// The look-alike's library; built if need be.
pub(super) fn lookalike() -> Result<PathBuf> {
    let folder = folder().join("lookalike");
    let script = root().join("tests/lookalike/build.py");
    run(Command::new("python3").arg(script).args(["--only", "buffer"]).arg(&folder))?;
    Ok(folder.join("buffer/libtt_metal.so"))
}

/// Where all that is measured with and written is.
#[must_use]
pub(super) fn folder() -> PathBuf {
    root().join("target/bench")
}

/// A file there.
#[must_use]
pub(super) fn file(name: &str) -> PathBuf {
    folder().join(name)
}

/// Bytes of a file.
pub(super) fn size(path: &Path) -> Result<u64> {
    Ok(path.metadata().with_context(|| format!("failed to look at {}", path.display()))?.len())
}
