# SPDX-License-Identifier: Apache-2.0
"""The plugin in sessions of its own, with a program that stands in for tt-buftrace."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import sys

import pytest

STAND_IN = pathlib.Path(__file__).with_name("stand_in.py")
PACKAGE = pathlib.Path(__file__).resolve().parent.parent

# Maps the library, tells the recorder, and looks whether it has attached by the time the import is over.
LIBRARY = """
    import mmap, os, pathlib
    folder = pathlib.Path(os.environ["STAND_IN_FOLDER"])
    library = folder / "libtt_metal.so"
    library.write_bytes(b"library")
    with library.open("r+b") as file:
        MAPPED = mmap.mmap(file.fileno(), 0)
    folder.joinpath(f"loaded-{os.getpid()}").touch()
"""
TESTS = """
    import os, pathlib
    import library
    import _lsprof  # an extension module: what is loaded by then is waited for
    ATTACHED = pathlib.Path(os.environ["STAND_IN_FOLDER"], f"attached-{os.getpid()}").exists()
    def test_good():
        assert ATTACHED
    def test_bad():
        pass
"""


@pytest.fixture
def session(pytester, monkeypatch):
    """Runs pytest --buftrace with more words, where the program does as it is told."""
    pytester.makepyfile(library=LIBRARY, test_it=TESTS)
    binary = pytester.mkdir("bin") / "tt-buftrace"
    binary.write_text(f"#!{sys.executable}\n" + STAND_IN.read_text())
    binary.chmod(0o755)
    folder = pytester.mkdir("state")
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE))
    monkeypatch.setenv("STAND_IN_FOLDER", str(folder))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(*words: str, **orders: object) -> pytest.RunResult:
        monkeypatch.setenv("STAND_IN", json.dumps(orders))
        return pytester.runpytest_subprocess("-p", "tt_buftrace.plugin", "-p", "no:cacheprovider", *words)

    run.calls = lambda: (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    run.folder = folder
    return run


def test_the_summary_has_the_tests_that_are_worth_a_line(session):
    result = session("--buftrace")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "buftrace: recording to */buftrace.ttb",
            "*device buffers (tt-buftrace)*",
            " allocs   frees  excess       held  test",
            "      3       2       1   64.0 KiB  test_it.py::test_bad  (1 repeat, 1 held)",
            "nothing odd in 1 other test: 2 allocations, 2 frees",
            "14 events in */buftrace.ttb; see more: tt-buftrace report */buftrace.ttb",
        ]
    )
    result.stdout.no_fnmatch_line("*test_good*")
    assert result.ret == 0
    calls = session.calls()
    assert [call.split()[0] for call in calls] == ["record", "report", "held"]
    assert "--follow-forks" in calls[0]


def test_with_v_all_tests_have_a_line(session):
    result = session("--buftrace=state/../other.ttb", "-v")
    result.stdout.fnmatch_lines(
        ["      2       2       0        0 B  test_it.py::test_good", "14 events in */other.ttb;*"]
    )
    result.stdout.no_fnmatch_line("*state/..*")


def test_tests_fail_by_rule(session):
    result = session("--buftrace", "--buftrace-fail-on", "excess,held", "--buftrace-probes", "full")
    result.assert_outcomes(passed=2)
    kept = "! held: 3 more are only possible, which `held?` counts"
    result.stdout.fnmatch_lines([kept, "FAILED test_it.py::test_bad - excess: 1"])
    assert result.ret == 1
    assert "--probes full" in next(call for call in session.calls() if call.startswith("record"))


def test_a_wrong_rule_is_said_before_any_test_is_run(session):
    result = session("--buftrace", "--buftrace-fail-on=leak")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --buftrace-fail-on: error: invalid value 'leak' for *"])
    assert [call.split()[0] for call in session.calls()] == ["check"]


def test_without_rights_the_session_goes_on_and_says_what_is_missing(session):
    result = session("--buftrace", denied=True)
    result.assert_outcomes(passed=1, failed=1)
    lines = [
        "! this session is not recorded: tracing is not possible here:",
        "  fail rights * without CAP_BPF and CAP_PERFMON",
    ]
    if os.geteuid() != 0:
        lines.append("  sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_sys_admin+ep */bin/tt-buftrace")
    result.stdout.fnmatch_lines(lines)


def test_without_rights_a_session_that_has_to_be_recorded_is_none(session):
    result = session("--buftrace", "--buftrace-required", denied=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --buftrace-required: tracing is not possible here:"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_sudo_gives_the_rights(session, pytester):
    sudo = pytester.path / "bin" / "sudo"
    # Like sudo, another process that waits for its own.
    sudo.write_text('#!/bin/sh\n[ "$1 $2" = "-n --" ] || exit 1\nshift 2\nSUDO=1 "$@"\n')
    sudo.chmod(0o755)
    result = session("--buftrace", denied=True)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["buftrace: recording by sudo to *", "*test_it.py::test_bad*"])


def test_a_session_without_the_library_says_so_and_reads_no_older_trace(session, pytester):
    pytester.makepyfile(test_it="def test_good(): pass")
    result = session("--buftrace")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["! nothing was recorded, as nothing has loaded TT-Metal"])
    assert [call.split()[0] for call in session.calls()] == ["record"]
    assert result.ret == 0


def test_a_library_that_a_test_loads_by_other_means_may_be_recorded_late(session, pytester):
    pytester.makepyfile(test_it="def test_good():\n    import library\ndef test_bad():\n    pass\n")
    result = session("--buftrace")
    result.stdout.fnmatch_lines(["! test_it.py::test_good loaded TT-Metal other than by importing it: *"])
    assert result.ret == 0
    assert session("--buftrace", "--buftrace-required").ret == 1


def test_losses_and_failures_of_the_recorder_are_said(session):
    result = session("--buftrace", lossy=True, found=5)
    result.stdout.fnmatch_lines(["! 3 events were lost", "! 5 buffers were there before the recorder attached"])
    result = session("--buftrace", odd=10)
    result.stdout.fnmatch_lines(["! it is odd"] * 8 + ["! and 2 more problems, which -v shows"])
    result = session("--buftrace", "--buftrace-required", full=True)
    result.stdout.fnmatch_lines(["! the recorder failed: failed to write: the disk is full"])
    assert result.ret == 1
    result = session("--buftrace", killed=True)
    result.stdout.fnmatch_lines(
        ["! the recorder was killed by SIGKILL; what it had recorded by then is in */buftrace.ttb"]
    )
    result = session("--buftrace", "--buftrace-fail-on=excess", full=True)
    result.stdout.fnmatch_lines(["FAILED nothing could be checked"])
    assert result.ret == 1


@pytest.mark.parametrize("words", [["--buftrace-fail-on=excess"], ["--buftrace-required"], ["--buftrace-probes=full"]])
def test_an_option_that_would_do_nothing_is_refused(session, words):
    result = session(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    option = words[0].split("=")[0]
    result.stderr.fnmatch_lines([f"ERROR: {option} is for a session that is recorded: it takes --buftrace, too"])
    assert session.calls() == []


def test_a_failure_is_told_once(session):
    result = session("--buftrace", refused=True)
    result.stdout.fnmatch_lines(["! the recorder failed: failed to record: this build is not known"])
    assert str(result.stdout).count("this build is not known") == 1


@pytest.mark.parametrize("words", [["--buftrace", "test_it.py"], ["--buftrace", "."], ["--buftrace", "a.py::test_b"]])
def test_a_test_is_not_taken_for_the_trace(session, words):
    result = session(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --buftrace *: this is no file for a trace; *"])


@pytest.mark.parametrize("words", [[], ["--buftrace", "--collect-only"], ["--buftrace", "--help"]])
def test_what_runs_no_tests_is_not_recorded(session, pytester, words):
    pytester.makepyfile(test_it="def test_good(): pass")
    assert session(*words).ret == 0
    assert session.calls() == []


def test_a_session_within_a_session_is_recorded_by_the_outer_one(session, pytester):
    pytester.makepyfile(
        test_it="""
            import subprocess, sys
            def test_inner():
                words = ["-p", "tt_buftrace.plugin", "-p", "no:cacheprovider", "--buftrace=inner.ttb", "inner.py"]
                inner = subprocess.run([sys.executable, "-m", "pytest", *words], capture_output=True, text=True)
                assert "buftrace: recorded by the session that this one is part of" in inner.stdout
                assert "! buftrace: another session records this one: there is no inner.ttb, and" in inner.stdout
                assert inner.returncode == 0
        """,
        inner=TESTS,
    )
    session("--buftrace").assert_outcomes(passed=1)
    assert [call.split()[0] for call in session.calls()] == ["record", "report", "held"]


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_workers_wait_for_the_one_recorder(session):
    result = session("--buftrace", "-n", "2")
    result.assert_outcomes(passed=2)
    assert [call.split()[0] for call in session.calls()] == ["record", "report", "held"]
    assert len(list(session.folder.glob("attached-*"))) == 2
