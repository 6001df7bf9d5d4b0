// SPDX-License-Identifier: Apache-2.0
//! The formats that show stacks: flame graphs and profiles.

use std::{io::Write, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};

use super::{
    Status,
    args::{Export, Format, Side},
    export::warn,
    read::read,
};
use crate::{
    analysis::{Filter, Integrity, Measure, Profile, ProfileFold},
    export::{Folded, Heading, Stacks, Unit, write_folded, write_pprof, write_speedscope, write_svg},
    model::{Definitions, Model},
    view,
};

/// What a profile shows.
#[derive(Debug, ClapArgs)]
pub(super) struct ProfileOptions {
    /// What folded and svg show [default: allocated]
    #[arg(long)]
    measure: Option<Measured>,
    /// Whether folded and svg show bytes, or how often [default: bytes]
    #[arg(long)]
    unit: Option<Counted>,
    /// With folded and svg, the earlier run to compare with; its traces joined by commas
    #[arg(long, value_name = "TRACE")]
    pub(super) against: Option<Side>,
    /// With all, the Python interpreter's own functions are shown too
    #[arg(long, value_name = "all", value_parser = ["all"])]
    frames: Option<String>,
}

impl ProfileOptions {
    /// Refuses what a format can't show.
    pub(super) fn refuse(&self, to: Format) -> Result<()> {
        if matches!(to, Format::Folded | Format::Svg) {
            return Ok(());
        }
        for (option, given) in [
            ("--measure", self.measure.is_some()),
            ("--unit", self.unit.is_some()),
            ("--against", self.against.is_some()),
        ] {
            if given {
                bail!("{option} is for --to folded and --to svg");
            }
        }
        Ok(())
    }

    /// How stacks are shown.
    pub(super) fn stacks<'a>(&self, definitions: &'a Definitions) -> Stacks<'a> {
        Stacks { definitions, all: self.frames.is_some() }
    }

    fn measure(&self) -> Measure {
        self.measure.unwrap_or(Measured::Allocated).into()
    }

    fn unit(&self) -> Unit {
        self.unit.unwrap_or(Counted::Bytes).into()
    }
}

/// What is measured by stack.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Measured {
    /// Allocations
    Allocated,
    /// Buffers that were not freed until their device closed or the recording ended
    Held,
    /// Buffers live when their memory held most
    Peak,
    /// Frees beyond the allocations
    Excess,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Counted {
    /// Bytes on one device
    Bytes,
    /// Allocations, buffers or frees
    Count,
}

/// Writes one of these formats.
pub(super) fn write(args: &Export, out: &mut dyn Write) -> Result<Status> {
    let options = &args.profile;
    let filter = args.scope.filter()?;
    let now = Read::of(&args.traces.paths, &filter)?;
    let before = options.against.as_ref().map(|side| Read::of(&side.0, &filter)).transpose()?;
    let status = before.iter().fold(warn(&now.model), |status, before| status.max(warn(&before.model)));
    match args.to {
        Format::Svg => {
            let (measure, unit) = (options.measure(), options.unit());
            let remark = now.remark(&args.traces.paths, before.as_ref().zip(options.against.as_ref()));
            let before = before.map(|before| before.folded(options)).transpose()?;
            let heading = Heading { measure, unit, remark };
            write_svg(&now.folded(options)?, before.as_ref(), &heading, out)?;
        }
        Format::Folded => {
            let before = before.map(|before| before.folded(options)).transpose()?;
            write_folded(&now.folded(options)?, before.as_ref(), out)?;
        }
        Format::Speedscope => {
            write_speedscope(&now.profile, now.stacks(options), &names(&args.traces.paths), out)?;
        }
        _ => {
            let head = view::head(&Integrity::of(&now.model));
            let remarks: Vec<String> = head.lines().map(str::to_owned).collect();
            write_pprof(&now.profile, &now.model, options.frames.is_some(), &remarks, out)?;
        }
    }
    out.flush().context("failed to write")?;
    Ok(status)
}

/// A run's profile, and what its numbers mean.
struct Read {
    profile: Profile,
    model: Model,
}

impl Read {
    fn of(paths: &[PathBuf], filter: &Filter) -> Result<Self> {
        let mut fold = ProfileFold::new(filter);
        let (model, _) = read(paths, filter.clone(), |entry| fold.entry(entry))?;
        Ok(Self { profile: fold.finish(), model })
    }

    fn stacks(&self, options: &ProfileOptions) -> Stacks<'_> {
        options.stacks(&self.model.definitions)
    }

    fn folded(&self, options: &ProfileOptions) -> Result<Folded> {
        let measure = options.measure();
        if measure == Measure::Peak && !self.profile.has_peaks {
            bail!("there is no peak of a part of the events: leave out --test, --site, --since and --until");
        }
        Ok(Folded::new(&self.profile, measure, options.unit(), self.stacks(options)))
    }

    /// Where it is from, and what is missing.
    fn remark(&self, paths: &[PathBuf], before: Option<(&Self, &Side)>) -> String {
        let integrity = Integrity::of(&self.model);
        let mut remark = names(paths);
        if integrity.lost() > 0 {
            remark += &format!(", {} events lost", integrity.lost());
        }
        if integrity.damaged {
            remark += ", damaged";
        }
        match before {
            Some((before, side)) => format!("{remark}; before: {}", before.remark(&side.0, None)),
            None => remark,
        }
    }
}

fn names(paths: &[PathBuf]) -> String {
    let names = paths.iter().map(|path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy());
    names.collect::<Vec<_>>().join(", ")
}

impl From<Measured> for Measure {
    fn from(measured: Measured) -> Self {
        match measured {
            Measured::Allocated => Self::Allocated,
            Measured::Held => Self::Held,
            Measured::Peak => Self::Peak,
            Measured::Excess => Self::Excess,
        }
    }
}

impl From<Counted> for Unit {
    fn from(counted: Counted) -> Self {
        match counted {
            Counted::Bytes => Self::Bytes,
            Counted::Count => Self::Count,
        }
    }
}
