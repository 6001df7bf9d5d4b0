// SPDX-License-Identifier: Apache-2.0
//! What can be said on the command line. Nothing else knows clap.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand};

use crate::{
    analysis::{DeviceQuery, Query},
    model::Device,
    trace::DeviceClass,
    view::{Frames, StackChoice},
};

/// Follows the device buffers of a running TT-Metal process, and says what happened to each.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Attach to a running process, or start a command, and write a trace
    Record(Record),
    /// Say what tracing needs and does not have, for this machine and for a process
    Doctor(Doctor),
    /// Make a trace of an allocation server's log, or of ttnn's graph captures
    Import(Import),
    /// Totals, verdicts, the balance of each address, and the same by test
    Report(Report),
    /// Everything that happened to a device, an address or a buffer
    Timeline(Timeline),
    /// Where buffers are freed too often: this free, the free before it, the allocation
    Excess(Excess),
    /// Every record and event as a line of text
    Dump(Dump),
}

#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("target").args(["pid", "command"]).required(true)))]
pub(super) struct Record {
    /// Process to attach to; it is not stopped, and goes on when the recording ends
    #[arg(short, long)]
    pub(super) pid: Option<u32>,
    /// Trace file [default: buftrace-PID.ttb for --pid, buftrace.ttb for a command]
    #[arg(short, long, value_name = "TRACE")]
    pub(super) output: Option<PathBuf>,
    /// Size of the ring buffer between kernel and recorder, in MiB: a power of two
    #[arg(long, value_name = "MIB", default_value = "64", value_parser = parse_ring)]
    pub(super) ring: u32,
    /// Print what the kernel side logs
    #[arg(long)]
    pub(super) verbose_kernel: bool,
    /// Print neither progress nor summary
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Command to start and record
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Doctor {
    /// Look at this process too
    #[arg(short, long)]
    pub(super) pid: Option<u32>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Import {
    /// Logs of an allocation server and graph captures in JSON; each is a source of its own
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Trace file
    #[arg(short, long, value_name = "TRACE")]
    pub(super) output: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Report {
    #[command(flatten)]
    pub(super) traces: Traces,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("query").args(["device", "address", "buffer"]).required(true).multiple(true)))]
pub(super) struct Timeline {
    #[command(flatten)]
    pub(super) traces: Traces,
    /// Device: mesh0, chip3, or a number for either
    #[arg(long, value_parser = parse_device)]
    device: Option<DeviceQuery>,
    /// Device address, in decimal or as 0x…
    #[arg(long, value_parser = parse_address)]
    address: Option<u64>,
    /// Unique id of a buffer
    #[arg(long)]
    buffer: Option<u64>,
    /// Show the stack of each step
    #[arg(long)]
    stacks: bool,
    /// Lines shown of each stack: a number, without the Python interpreter's own functions, or all
    #[arg(long, default_value = "16", value_parser = parse_frames)]
    frames: Frames,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Excess {
    #[command(flatten)]
    pub(super) traces: Traces,
    /// Lines shown of each stack: a number, without the Python interpreter's own functions, or all
    #[arg(long, default_value = "16", value_parser = parse_frames)]
    pub(super) frames: Frames,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Dump {
    #[command(flatten)]
    pub(super) traces: Traces,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Traces {
    /// Traces; several are read as one, e.g. those of all ranks of a run
    #[arg(required = true, value_name = "TRACE")]
    pub(super) paths: Vec<PathBuf>,
}

impl Timeline {
    pub(super) fn query(&self) -> Query {
        Query { device: self.device, address: self.address, buffer: self.buffer }
    }

    pub(super) fn stack_choice(&self) -> StackChoice {
        if self.stacks { StackChoice::Show(self.frames) } else { StackChoice::Hide }
    }
}

/// The kernel takes powers of two of at least a page; 1 GiB is the most that its 32-bit size allows.
fn parse_ring(text: &str) -> Result<u32, String> {
    let mebibytes: Option<u32> = text.parse().ok().filter(|size: &u32| size.is_power_of_two() && *size <= 1024);
    mebibytes.map(|size| size << 20).ok_or_else(|| "a power of two from 1 to 1024".to_owned())
}

fn parse_device(text: &str) -> Result<DeviceQuery, String> {
    let classes = [("mesh", DeviceClass::Mesh), ("chip", DeviceClass::Chip), ("device", DeviceClass::Unknown)];
    let exact = classes.into_iter().find_map(|(word, class)| Some((class, text.strip_prefix(word)?)));
    let query = match exact {
        Some((class, id)) => id.parse().map(|id| DeviceQuery::Exactly(Device { class, id })),
        None => text.parse().map(DeviceQuery::Any),
    };
    query.map_err(|_| "a device is mesh0, chip3 or 0, with any number".to_owned())
}

fn parse_address(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "an address is a number, in decimal or as 0x…".to_owned())
}

fn parse_frames(text: &str) -> Result<Frames, String> {
    if text == "all" {
        return Ok(Frames::All);
    }
    text.parse().map(Frames::First).map_err(|_| "a number of lines, or all".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn devices_and_addresses_are_understood() {
        let exactly = |class, id| Ok(DeviceQuery::Exactly(Device { class, id }));
        assert_eq!(parse_device("mesh0"), exactly(DeviceClass::Mesh, 0));
        assert_eq!(parse_device("chip31"), exactly(DeviceClass::Chip, 31));
        assert_eq!(parse_device("7"), Ok(DeviceQuery::Any(7)));
        assert!(parse_device("mesh").is_err() && parse_device("gpu0").is_err());
        assert_eq!((parse_address("0x100400"), parse_address("1049600")), (Ok(1_049_600), Ok(1_049_600)));
        assert!(parse_address("100400h").is_err());
    }
}
