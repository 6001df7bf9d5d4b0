// SPDX-License-Identifier: Apache-2.0
//! The command line: parses, dispatches, writes the view, and turns errors into a line and an exit code.

mod args;
mod compare;
mod config;
mod export;
mod file;
mod generate;
mod import;
mod live;
mod profile;
mod read;
mod record;
mod redact;
mod scope;
mod summed;
#[cfg(test)]
mod tests;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use args::Command;
use config::Refusal;

use crate::{
    privileges::{self, Purpose},
    trace::{ReadError, escape_lines},
};

/// Exit code: done, but the traces had problems, or did not pass a check, or there is none, as nothing was recorded.
const PROBLEMS: u8 = 1;
/// Exit code: misuse or failure. clap uses it too.
const FAILURE: u8 = 2;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    /// All is well.
    Done,
    /// A trace could not be read to its end, but what could be is shown; a check failed; nothing was recorded.
    Problems,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let args = match config::parse(env::args_os().collect()) {
        Ok(args) => args,
        Err(Refusal::Usage(error)) => {
            // What can't be printed has no reader.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILURE } else { 0 });
        }
        Err(Refusal::Config(error)) => {
            say!("error: {}\n", escape_lines(&format!("{error:#}")));
            return ExitCode::from(FAILURE);
        }
    };
    let mut stdout = io::BufWriter::new(io::stdout());
    let result =
        reduce_privileges(&args.command).and_then(|()| dispatch(args.command, &mut stdout)).and_then(|status| {
            stdout.flush()?;
            Ok(status)
        });
    match result {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Problems) => ExitCode::from(PROBLEMS),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say!("error: {}\n", escape_lines(&format!("{error:#}")));
            if let Some(error) = error.downcast_ref::<ReadError>() {
                say!("hint: {}\n", error.hint());
            }
            ExitCode::from(FAILURE)
        }
    }
}

/// `record` first starts what it is to record, and `live` records as it does.
fn reduce_privileges(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Record(_) => Ok(()),
        Command::Live(args) if args.trace.is_none() => Ok(()),
        Command::Doctor(_) => privileges::reduce(Purpose::Recording),
        _ => privileges::reduce(Purpose::Reading),
    }
}

fn dispatch(command: Command, out: &mut impl Write) -> anyhow::Result<Status> {
    match command {
        Command::Record(args) => record::record(args),
        Command::Live(args) => live::live(args),
        Command::Doctor(args) => record::doctor(&args, out),
        Command::Import(args) => import::import(&args),
        Command::Report(args) => read::report(&args, out),
        Command::Timeline(args) => read::timeline(&args, out),
        Command::Excess(args) => read::excess(&args, out),
        Command::Held(args) => read::held(&args, out),
        Command::Diff(args) => compare::diff(&args, out),
        Command::Check(args) => compare::check(&args, out),
        Command::Export(args) => export::export(&args),
        Command::Explain(args) => read::explain(&args, out),
        Command::Redact(args) => redact::redact(&args),
        Command::Dump(args) => read::dump(&args, out),
        Command::Generate(args) => generate::generate(&args),
    }
}

/// Whoever reads our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}
