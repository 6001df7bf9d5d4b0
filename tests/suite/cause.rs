// SPDX-License-Identifier: Apache-2.0
//! The causes that `excess` names, live: on a look-alike that has each of them.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    target::{lookalike_pytest, record, record_with},
    tool::{can_probe, json, path, root, run, text},
};

/// What a test's sites are, each with its verdict, how many frees, and its causes.
type Sites = &'static [(&'static str, u64, &'static [&'static str])];

/// What each scenario of `test_causes.py` is there to show. The free that robs the second owner of a block is not made
/// by any pattern, and a buffer that was robbed is freed in vain.
const CAUSES: [(&str, Sites); 17] = [
    ("test_program_cache", &[("stale-free", 1, &["program-cache"]), ("stolen-free", 1, &[])]),
    ("test_program_cache_after_close", &[("after-close", 1, &["program-cache", "outlived-device"])]),
    ("test_cache", &[("repeat", 1, &["cache"])]),
    ("test_program_pool", &[("stale-free", 1, &["program-pool"]), ("stolen-free", 1, &[])]),
    ("test_container[vector-clear]", CONTAINER),
    ("test_container[vector-drop]", CONTAINER),
    ("test_container[map-clear]", CONTAINER),
    ("test_container[map-drop]", CONTAINER),
    ("test_container[unordered_map-clear]", CONTAINER),
    ("test_container[unordered_map-drop]", CONTAINER),
    ("test_container[deque-clear]", CONTAINER),
    ("test_container[deque-drop]", CONTAINER),
    ("test_view", &[("stale-free", 1, &[]), ("stolen-free", 1, &["view"])]),
    ("test_graph_capture", &[("repeat", 1, &["graph-capture"])]),
    ("test_forked_child", &[("inherited", 1, &["forked-child"]), ("repeat", 1, &["forked-child"])]),
    ("test_next_after_one_that_failed", &[]),
    ("test_no_known_pattern", &[("repeat", 1, &[])]),
];
const CONTAINER: Sites = &[("stale-free", 1, &["container"]), ("stolen-free", 1, &[])];

/// The sites of all kinds that a test has.
fn sites(trace: &str, test: &str) -> Result<Vec<Value>> {
    let found = json(&["excess", trace, "--test", &format!("*::{test}")])?;
    let kinds = ["sites", "late", "inherited"];
    Ok(kinds.iter().flat_map(|kind| found[kind].as_array().cloned().unwrap_or_default()).collect())
}

/// Verdict, count and causes of each.
fn told(sites: &[Value]) -> Vec<Value> {
    let told = |site: &Value| {
        let causes = site["causes"].as_array().into_iter().flatten().map(|it| it["cause"].clone());
        json!([site["verdicts"][0]["verdict"], site["verdicts"][0]["count"], causes.collect::<Vec<_>>()])
    };
    let mut told: Vec<Value> = sites.iter().map(told).collect();
    told.sort_by_key(ToString::to_string);
    told
}

#[test]
fn each_cause_is_named_where_it_is_at_work_and_nowhere_else() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for variant in ["buffer", "pimpl"] {
        let (_target, trace) =
            record_with(lookalike_pytest(variant, &["scenarios/test_causes.py"]), &["--follow-forks"])?;
        let trace = path(&trace);
        for (test, expected) in CAUSES {
            assert_eq!(told(&sites(trace, test)?), *json!(expected).as_array().context("a list")?, "{variant} {test}");
        }
        evidence_is_of_this_run(trace)?;
        a_failed_test_keeps_its_tensors(trace)?;
        let shown = text(&["excess", trace, "--test", "test_no_known_pattern"])?;
        assert!(shown.contains("\n  cause: no known pattern\n"), "{shown}");
    }
    Ok(())
}

/// The evidence has the frames of the scenario, and its lines.
fn evidence_is_of_this_run(trace: &str) -> Result<()> {
    let source = fs::read_to_string(root().join("tests/lookalike/lookalike.py"))?;
    let line_of = |text: &str| 1 + source.lines().position(|line| line.contains(text)).unwrap_or_default();
    let call = line_of("result = getattr(library, name)(self._handle");
    let by_call = format!("Native._call (lookalike.py:{call})");
    for (test, begin) in [
        ("test_cache", "this free is made by model::WeightCache::clear (#".to_owned()),
        (
            "test_program_cache",
            "this free is made by tt::tt_metal::distributed::MeshDeviceImpl::disable_and_clear_program_cache (#"
                .to_owned(),
        ),
        ("test_container[vector-clear]", "this free is made by std::vector<std::shared_ptr<Buffer>>::".to_owned()),
        ("test_view", "this free: buffer ".to_owned()),
    ] {
        let sites = sites(trace, test)?;
        let evidence = sites.iter().find_map(|site| site["causes"][0]["evidence"].as_str()).context("evidence")?;
        assert!(evidence.starts_with(&begin), "{evidence}");
        assert!(evidence.ends_with(&by_call) || test == "test_view", "{evidence} {by_call}");
        // The frame that it names is the one that stands there.
        if let Some((_, frame)) = evidence.split_once("(#") {
            let index: usize = frame.split(')').next().unwrap_or_default().parse()?;
            let site = sites.iter().find(|site| site["causes"][0]["evidence"] == evidence).context("the site")?;
            let function = site["free"]["lines"][index]["function"].as_str().unwrap_or_default();
            let last = begin.trim_end_matches(" (#").rsplit("::").next().unwrap_or_default();
            assert!(function.contains(last), "{function} {evidence}");
        }
    }
    Ok(())
}

/// The fixture closes the device when the test has failed; the test's locals are kept longer.
fn a_failed_test_keeps_its_tensors(trace: &str) -> Result<()> {
    let found = json(&["excess", trace])?;
    let late = found["late"].as_array().into_iter().flatten();
    let evidence =
        late.flat_map(|site| site["causes"].as_array()).flatten().filter(|it| it["cause"] == "outlived-device");
    let evidence: Vec<&str> = evidence.filter_map(|it| it["evidence"].as_str()).collect();
    let kept = evidence.iter().find(|it| it.contains("test_outlived_device (teardown)"));
    let kept = kept.with_context(|| format!("{evidence:?}"))?;
    assert!(kept.contains("was closed before, by "), "{kept}");
    Ok(())
}

/// What a server at the graph tracker would have counted of a tensor on eight chips, and what it was.
#[test]
fn eight_chips_report_as_scripted() -> Result<()> {
    if !can_probe() {
        return Ok(());
    }
    for variant in ["excess-reporting", "excess-reporting-pimpl"] {
        let (target, trace) = record(lookalike_pytest(variant, &["scenarios/test_reports.py"]))?;
        let (trace, table) = (path(&trace), target.path("expected.toml"));
        for (test, allocations, frees, owner) in
            [("test_9_and_9", 9, 9, 1), ("test_9_and_8", 9, 8, 0), ("test_9_and_1", 9, 1, 1), ("test_1_and_9", 1, 9, 1)]
        {
            for (frees, code) in [(frees, 0), (frees + 1, 1)] {
                let expected = format!(
                    "[[expect]]\nname = \"tensor\"\ntest = \"{test}\"\nledger = \"server\"\nallocations = {allocations}\n\
                     frees = {frees}\n"
                );
                fs::write(&table, expected)?;
                let output = run(&["check", trace, "--expect", path(&table)])?;
                assert_eq!(
                    output.status.code(),
                    Some(code),
                    "{variant} {test}: {}",
                    String::from_utf8_lossy(&output.stdout)
                );
            }
            // Of the frees that chips report, each is told as what it is, at one site.
            let chips = frees - owner;
            let sites = sites(trace, test)?;
            let aliases: Vec<&Value> =
                sites.iter().filter(|site| site["verdicts"][0]["verdict"] == "alias-free").collect();
            assert_eq!(aliases.len() as u64, u64::from(chips > 0), "{variant} {test}: {aliases:?}");
            for site in aliases {
                assert_eq!((&site["count"], &site["possible"]), (&json!(chips), &json!(0)), "{variant} {test}");
                // A chip that is gone is not read.
                if owner == 1 {
                    assert_eq!(site["causes"][0]["cause"], "mesh-and-chip", "{variant} {test}");
                    let evidence = site["causes"][0]["evidence"].as_str().unwrap_or_default();
                    assert!(evidence.starts_with(&format!("all {chips} frees: e.g. buffer ")), "{evidence}");
                    assert!(
                        evidence.contains(" on chip0 owns nothing, 0x") && evidence.contains(" on mesh"),
                        "{evidence}"
                    );
                } else {
                    assert_eq!(site["causes"], json!([]), "{variant} {test}");
                }
            }
            let others: BTreeMap<String, Value> = sites
                .iter()
                .filter(|site| site["verdicts"][0]["verdict"] != "alias-free")
                .map(|site| (site["verdicts"][0]["verdict"].to_string(), site["causes"][0]["cause"].clone()))
                .collect();
            let expected =
                if owner == 0 { vec![("\"after-close\"".to_owned(), json!("outlived-device"))] } else { Vec::new() };
            assert_eq!(others, expected.into_iter().collect(), "{variant} {test}");
        }
    }
    Ok(())
}
