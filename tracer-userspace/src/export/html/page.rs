// SPDX-License-Identifier: Apache-2.0
//! The page as a file: its parts, and the data that its script unpacks.
//!
//! The data are compressed and in base64, so that no name of a trace stands in the page as such; the script shows names
//! as text only. Nothing but the page's own script and styles may run or load, which it says by their digests.

use std::io::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD, write::EncoderWriter};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

const PAGE: &str = include_str!("page/page.html");

const STYLES: [&str; 3] =
    [include_str!("page/page.css"), include_str!("page/panels.css"), include_str!("page/print.css")];

/// One scope: a file may use what stands in those before it.
const SCRIPTS: [&str; 14] = [
    include_str!("page/element.js"),
    include_str!("page/words.js"),
    include_str!("page/data.js"),
    include_str!("page/state.js"),
    include_str!("page/curve.js"),
    include_str!("page/stack.js"),
    include_str!("page/raster.js"),
    include_str!("page/strips.js"),
    include_str!("page/paint.js"),
    include_str!("page/map.js"),
    include_str!("page/gestures.js"),
    include_str!("page/flame.js"),
    include_str!("page/tables.js"),
    include_str!("page/main.js"),
];

/// Writes the page.
pub(super) fn write(out: &mut impl Write, facts: &[u8], columns: &[u8]) -> io::Result<()> {
    let styles = STYLES.concat();
    let script = format!("\"use strict\";\n(() => {{\n{}}})();\n", SCRIPTS.concat());
    let policy = format!("default-src 'none'; style-src '{}'; script-src '{}'", digest(&styles), digest(&script));
    let mut rest = PAGE;
    let mut until = |mark: &str| {
        let (before, behind) = rest.split_once(mark).unwrap_or((rest, ""));
        rest = behind;
        before
    };
    write!(out, "{}{policy}", until("{{policy}}"))?;
    write!(out, "{}{styles}", until("{{styles}}"))?;
    write!(out, "{}", until("{{facts}}"))?;
    packed(out, facts)?;
    write!(out, "{}", until("{{columns}}"))?;
    packed(out, columns)?;
    write!(out, "{}{script}", until("{{script}}"))?;
    write!(out, "{rest}")
}

fn packed(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let mut encoder = GzEncoder::new(EncoderWriter::new(out, &STANDARD), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()?.finish().map(drop)
}

/// As a content security policy names an inline script or style.
fn digest(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
