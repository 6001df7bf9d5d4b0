// SPDX-License-Identifier: Apache-2.0
//! The causes that `excess` names, on real ttnn releases: their functions are called as the rules say.

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    target::{can_have_ttnn, record, ttnn, ttnn_pytest},
    tool::{can_probe, json, path},
};

/// The late sites of the scenarios, by test: the causes, and what the evidence of each has to say.
const LATE: [(&str, &[(&str, &str)]); 2] = [
    (
        "test_program_cache_is_cleared_after_close",
        &[
            ("program-cache", "MeshDeviceImpl::disable_and_clear_program_cache (#"),
            ("outlived-device", "close (tensors.py:"),
        ],
    ),
    (
        "test_program_cache_goes_with_its_device",
        &[("program-cache", "<ProgramCache>::"), ("outlived-device", "close (tensors.py:")],
    ),
];

fn check(version: &str) -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let (_target, trace) = record(ttnn_pytest(version, &["causes"])?)?;
    let trace = path(&trace);
    let all = json(&["excess", trace])?;
    assert_eq!(all["sites"], json!([]), "nothing is freed twice");
    for (test, causes) in LATE {
        let late = json(&["excess", trace, "--test", test])?["late"].clone();
        let [site] = late.as_array().map(Vec::as_slice).context("sites")? else { panic!("{test}: {late}") };
        let found = site["causes"].as_array().map(Vec::as_slice).context("causes")?;
        // From some release on, a program's tensors are in a vector that is told of too.
        let found: Vec<_> = found.iter().filter(|it| it["cause"] != "container").collect();
        assert_eq!(found.len(), causes.len(), "{test}: {found:?}");
        for (found, (cause, evidence)) in found.iter().zip(causes) {
            assert_eq!(found["cause"], *cause, "{test}");
            assert!(found["evidence"].as_str().is_some_and(|it| it.contains(evidence)), "{test}: {found}");
        }
    }
    for test in ["test_none_if_the_cache_is_cleared_first", "test_none_after_one_that_failed"] {
        assert_eq!(json(&["excess", trace, "--test", test])?["late"], json!([]), "{test}");
    }
    // What pytest kept of the failed test, it gives up when another runs, or at its end.
    let late = all["late"].as_array().into_iter().flatten().flat_map(|site| site["causes"].as_array()).flatten();
    let evidence: Vec<&str> = late.filter_map(|cause| cause["evidence"].as_str()).collect();
    let kept = evidence.iter().find(|it| it.contains("test_outlived_device (teardown)"));
    let kept = kept.with_context(|| format!("{evidence:?}"))?;
    assert!(kept.contains("; pytest let go of it, in "), "{kept}");
    Ok(())
}

/// Five tensors are freed on a device that is open, after another was closed, and ttnn itself says that their memory stays taken.
fn check_two_devices(version: &str) -> Result<()> {
    if !can_probe() || !can_have_ttnn() {
        return Ok(());
    }
    let (target, trace) = record(ttnn(version, &["two_devices.py"])?)?;
    let excess = json(&["excess", path(&trace)])?;
    let leaks = excess["leaks"].as_array().context("sites")?;
    assert_eq!(leaks.iter().filter_map(|site| site["count"].as_u64()).sum::<u64>(), 5, "{excess}");
    for cause in leaks.iter().map(|site| &site["causes"][0]) {
        let evidence = cause["evidence"].as_str().unwrap_or_default();
        assert!(cause["cause"] == "other-device-closed" && evidence.contains("(two_devices.py:"), "{cause}");
    }
    assert_eq!(excess["late"], json!([]));
    let held = json(&["held", path(&trace), "--type", "L1"])?;
    assert_eq!((&held["totals"][0]["count"], &held["totals"][0]["leaked"]), (&json!(6), &json!(5)), "{held}");
    // Nothing is given back any more, so that most is taken at the end.
    let truth = target.truth()?;
    let report = json(&["report", path(&trace), "--type", "L1"])?;
    assert_eq!(report["peaks"][0]["held"]["bank_bytes"], truth[0]["bytes"], "{report}");
    Ok(())
}

#[test]
fn ttnn_0_66_keeps_memory_after_another_device_closed() -> Result<()> {
    check_two_devices("0.66.0")
}

#[test]
fn ttnn_0_81_keeps_memory_after_another_device_closed() -> Result<()> {
    check_two_devices("0.81.1")
}

#[test]
fn ttnn_0_66_frees_late_for_known_causes() -> Result<()> {
    check("0.66.0")
}

#[test]
fn ttnn_0_81_frees_late_for_known_causes() -> Result<()> {
    check("0.81.1")
}
