// SPDX-License-Identifier: Apache-2.0
//! The command that makes a copy of a trace to show to others.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{Status, args::Redact};
use crate::{
    analysis::EpilogueFold,
    redact::Redactor,
    trace::{Follower, Reader, Writer},
};

pub(super) fn redact(args: &Redact) -> Result<Status> {
    let open = || Reader::open(&args.input).with_context(|| format!("failed to read {}", args.input.display()));
    let mut redactor = match &args.key {
        Some(key) => Redactor::new(key.as_bytes()),
        None => Redactor::new(&random_key()?),
    };
    for item in open()? {
        let _ = redactor.item(item);
    }
    let mut reader = open()?;
    ensure!(!is_same_file(&args.input, &args.output), "a trace can't be redacted in place: give another file by -o");
    let mut writer = Writer::create(&args.output)?;
    for item in &mut reader {
        writer.item(redactor.item(item));
    }
    writer.flush()?;
    let mut fold = EpilogueFold::default();
    fold.read(&mut Follower::open(&args.output)?);
    fold.finish().map_or(Ok(()), |epilogue| writer.epilogue(&epilogue.to_bytes()))?;
    if reader.skipped() > 0 {
        say!("warning: {} items of a newer version of the format are left out\n", reader.skipped());
    }
    if let Some(damage) = reader.damage() {
        say!("warning: the trace is damaged at byte {}: {}; what is behind is left out\n", damage.at, damage.what);
        return Ok(Status::Problems);
    }
    Ok(Status::Done)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    identity(one).is_some() && identity(one) == identity(other)
}

fn random_key() -> Result<[u8; 32]> {
    let mut key = [0; 32];
    let filled = rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty());
    ensure!(filled.context("failed to get random bytes")? == key.len(), "the kernel has too few random bytes");
    Ok(key)
}
