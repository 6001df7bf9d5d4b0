// SPDX-License-Identifier: Apache-2.0
//! What can be said on the command line. Nothing else knows clap.

use std::path::PathBuf;

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
    /// Lines shown of each stack: a number, or all
    #[arg(long, default_value = "12", value_parser = parse_frames)]
    frames: Frames,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Excess {
    #[command(flatten)]
    pub(super) traces: Traces,
    /// Lines shown of each stack: a number, or all
    #[arg(long, default_value = "12", value_parser = parse_frames)]
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
        Query {
            device: self.device,
            address: self.address,
            buffer: self.buffer,
        }
    }

    pub(super) fn stack_choice(&self) -> StackChoice {
        if self.stacks {
            StackChoice::Show(self.frames)
        } else {
            StackChoice::Hide
        }
    }
}

fn parse_device(text: &str) -> Result<DeviceQuery, String> {
    let classes = [("mesh", DeviceClass::Mesh), ("chip", DeviceClass::Chip)];
    let exact = classes
        .into_iter()
        .find_map(|(word, class)| Some((class, text.strip_prefix(word)?)));
    let query = match exact {
        Some((class, id)) => id
            .parse()
            .map(|id| DeviceQuery::Exactly(Device { class, id })),
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
    text.parse()
        .map(Frames::First)
        .map_err(|_| "a number of lines, or all".to_owned())
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
        assert_eq!(
            (parse_address("0x100400"), parse_address("1049600")),
            (Ok(1_049_600), Ok(1_049_600))
        );
        assert!(parse_address("100400h").is_err());
    }
}
