# SPDX-License-Identifier: Apache-2.0
"""The parts of the plugin by themselves."""

from __future__ import annotations

import importlib
import pathlib
import sys

from tt_buftrace import summary
from tt_buftrace.attachment import AfterExtensions
from tt_buftrace.recorder import Log


def test_a_log_tells_who_is_recorded_and_who_is_not(tmp_path):
    log = Log(tmp_path / "log")
    log.path.write_text("waiting: process 17 (pytest) has not loaded TT-Metal yet; Ctrl-C stops waiting\n")
    assert log.is_ready() and not log.has_begun()
    assert log.wait_until_attached(17, seconds=0) == "the recorder did not attach within 0 s"
    with log.path.open("a") as file:
        file.write(
            "recording process 170 (a): 21 probes\nwarning: process 18 is not recorded: it is odd\nrecording process 1"
        )
    assert log.has_begun()
    assert log.wait_until_attached(170, seconds=0) is None
    assert log.wait_until_attached(18, seconds=0) == "it is odd"
    # A line that is not whole yet says nothing.
    assert log.wait_until_attached(1, seconds=0) is not None
    with log.path.open("a") as file:
        file.write("7 (b): 21 probes\nerror: failed to write: the disk is full\n")
    assert log.wait_until_attached(17, seconds=0) is None
    assert log.wait_until_attached(19, seconds=0) == log.failure() == "failed to write: the disk is full"
    log.path.unlink()
    assert log.wait_until_attached(17, seconds=0) == "the recording has ended"


def test_extension_modules_are_loaded_as_ever(monkeypatch):
    loaded = []
    finder = AfterExtensions(lambda: loaded.append(True))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    for name in ("_lsprof", "this_is_no_module", "colorsys"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        found = True
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            found = False
        assert found == (name != "this_is_no_module")
        if name == "_lsprof":
            assert module.Profiler
            assert pathlib.Path(module.__file__).name.startswith(name)
    assert loaded == [True]


def report(tests):
    colours = {"released": "normal", "bulk": "normal", "repeat": "excess", "overlap": "red", "held": "yellow"}
    return {
        "verdicts": [{"verdict": name, "colour": colour} for name, colour in colours.items()],
        "tests": [
            {
                "test": name,
                "allocations": 1,
                "frees": 1,
                "verdicts": [{"verdict": it, "count": n} for it, n in verdicts.items()],
            }
            for name, verdicts in tests.items()
        ],
    }


def test_rows_are_sorted_by_how_bad_they_are():
    tests = {
        "clean": {"released": 4},
        "holds": {"held": 2},
        "repeats": {"repeat": 9},
        "shares": {"overlap": 1},
        None: {"released": 1},
    }
    held = {
        "groups": [
            {"until": "exit", "name": "holds", "bytes": 100},
            {"until": "stop", "name": "holds", "bytes": 28},
            {"until": "close", "name": "clean", "bytes": 5, "count": 2},
            {"until": "close", "name": "repeats", "bytes": 5, "count": 1},
        ]
    }
    rows = summary.rows(report(tests), held)
    assert [(row.test, row.excess, row.held_bytes) for row in rows] == [
        ("shares", 1, 0),
        ("repeats", 9, 0),
        ("holds", 0, 128),
        ("clean", 0, 0),
        ("(outside of tests)", 0, 0),
    ]
    lines = list(summary.table(rows, everything=False))
    assert [line.split("  (")[-1] for line, _ in lines[1:4]] == [
        "1 overlap)",
        "9 repeat, 1 bulk)",
        "2 held)",
    ]
    assert [markup for _, markup in lines[1:4]] == [{"red": True}, {"yellow": True}, {"yellow": True}]
    assert lines[-1][0] == "nothing odd in 2 other tests: 2 allocations, 2 frees; 2 held until their device closed"


def test_a_long_table_is_cut_and_says_so():
    rows = summary.rows(report({f"test_{n}": {"repeat": 1} for n in range(25)}), {"groups": []})
    lines = [line for line, _ in summary.table(rows, everything=False)]
    assert len(lines) == 22 and lines[-1] == "and 5 more such tests"
    assert len(list(summary.table(rows, everything=True))) == 26


def test_failures_are_by_test_where_that_is_known():
    def rule(name, **more):
        counted = {"passed": False, "count": 7, "possible": 0, "with_possible": False}
        return {"rule": name, "subject": name, **counted, "tests": [], "findings": [], **more}

    check = {
        "passed": False,
        "rules": [
            rule("held", passed=True),
            rule("lost"),
            rule(
                "excess/test>2",
                tests=[{"test": "a", "passed": True, "count": 1}, {"test": "b", "passed": False, "count": 3}],
            ),
            rule(
                "red",
                findings=[
                    {"test": "c", "confirmed": 2, "possible": 5},
                    {"test": "d", "confirmed": 0, "possible": 1},
                    {"test": None, "confirmed": 4, "possible": 0},
                ],
            ),
            rule("held?", with_possible=True, findings=[{"test": "c", "confirmed": 2, "possible": 5}]),
        ],
    }
    assert [str(failure) for failure in summary.failures(check)] == [
        "FAILED lost: 7",
        "FAILED b - excess/test>2: 3",
        "FAILED c - red: 2",
        "FAILED (outside of tests) - red: 4",
        "FAILED c - held?: 7",
    ]
    assert summary.doubts(check) == []
    kept = rule("held", passed=True, count=0, possible=3)
    assert summary.doubts({"rules": [kept]}) == ["held: 3 more are only possible, which `held?` counts"]
    assert summary.failures({"passed": True, "rules": [rule("held", passed=True)]}) == []
    by_defaults = summary.failures({"passed": False, "rules": [rule("held", passed=True)]})
    assert [str(failure) for failure in by_defaults] == ["FAILED tt-buftrace check, by its own file of defaults"]


def test_sizes_are_as_the_program_has_them():
    assert [summary.size(n) for n in (0, 10239, 10240, 150 << 10, 5 << 30)] == [
        "0 B",
        "10239 B",
        "10.0 KiB",
        "150 KiB",
        "5.0 GiB",
    ]
