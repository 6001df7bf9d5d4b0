// SPDX-License-Identifier: Apache-2.0
//! What buffers take in each bank, against what the target itself says of its banks.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    target::{can_have_ttnn, lookalike, record, ttnn},
    tool::{can_probe, json as read_json, path},
};

/// What the target said, and the report.
fn run(command: Command) -> Result<(Vec<Value>, Value)> {
    let (target, trace) = record(command)?;
    Ok((target.truth()?, read_json(&["report", path(&trace)])?))
}

/// The number behind some words of a message.
fn number(message: &str, words: &str) -> Result<Value> {
    let (_, rest) = message.split_once(words).with_context(|| format!("no `{words}` in {message}"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(json!(digits.parse::<u64>().with_context(|| format!("no number behind `{words}` in {message}"))?))
}

/// The failed request, and what was held then, are as the target's message has them.
fn fails_as_said(truth: &[Value], report: &Value, held: u64) -> Result<()> {
    let failed = truth.iter().find(|action| action["action"] == "failed").context("a request fails")?;
    let said = failed["error"].as_str().context("a message")?;
    let [failure] = report["failures"].as_array().context("failures")?.as_slice() else { panic!("{report}") };
    assert_eq!(failure["buffer_type"], "L1");
    assert_eq!(failure["bytes"], number(said, "Not enough space to allocate ")?);
    assert_eq!(failure["bank_bytes"], number(said, "each bank needs to store ")?);
    assert_eq!(failure["held"]["bank_bytes"], number(said, "(allocated: ")?);
    assert_eq!((&failure["held"]["bank_unknown"], &failure["held"]["buffers"]), (&json!(0), &json!(held)));
    Ok(())
}

fn at_the_peak<'a>(report: &'a Value, buffer_type: &str) -> Result<&'a Value> {
    let mut peaks = report["peaks"].as_array().context("peaks")?.iter();
    let peak = peaks.find(|peak| peak["buffer_type"] == buffer_type).context("a peak")?;
    Ok(&peak["held"])
}

#[test]
fn a_bank_of_the_lookalike_holds_what_it_says() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for variant in ["buffer", "pimpl"] {
        let (truth, report) = run(lookalike(variant, &["banks.py"]))?;
        fails_as_said(&truth, &report, 5)?;
        // One block for each of eight banks.
        assert_eq!(at_the_peak(&report, "DRAM")?["bank_bytes"], json!((1 << 20) / 8));
    }
    Ok(())
}

#[test]
fn a_bank_of_ttnn_holds_what_it_says() -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    for version in ["0.66.0", "0.81.1"] {
        let (truth, report) = run(ttnn(version, &["banks.py"])?)?;
        fails_as_said(&truth, &report, 3)?;
        // Nothing was freed since the peak.
        let views: Vec<&Value> = truth.iter().filter(|action| action["action"] == "view").collect();
        assert_eq!(views.len(), 2);
        for (view, buffer_type) in views.into_iter().zip(["DRAM", "L1"]) {
            let held = at_the_peak(&report, buffer_type)?;
            assert_eq!(held["bank_bytes"], view["allocated"], "{version} {buffer_type}");
            assert_eq!(held["bank_unknown"], 0, "{version} {buffer_type}");
            assert!(view["allocated"].as_u64() > Some(0), "{version} {buffer_type}");
        }
    }
    Ok(())
}
