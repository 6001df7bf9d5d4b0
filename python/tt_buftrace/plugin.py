# SPDX-License-Identifier: Apache-2.0
"""The plugin for pytest: `pytest --buftrace` records its own session, and says what each test did to buffers.

One recorder is started by the first process of the session, and follows its children, so that one trace has the workers
of pytest-xdist as well. Tests are told apart by the variable that pytest itself sets, PYTEST_CURRENT_TEST.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import program, summary
from .attachment import Attachment
from .recorder import Log, NotRecording, Recorder

TRACE = "buftrace.ttb"
# Tells the session's other processes that they are recorded, and where the recorder says how far it has come.
LOG_VARIABLE = "TT_BUFTRACE_LOG"
OUTPUT = "tt_buftrace"
# Problems that are shown, unless all are wanted: each worker of pytest-xdist may have the same ones.
MOST_PROBLEMS = 8


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("buftrace", "device buffers (tt-buftrace)")
    group.addoption(
        "--buftrace",
        metavar="FILE",
        nargs="?",
        const=TRACE,
        help=f"record what this session does to device buffers [default of FILE: {TRACE}]",
    )
    group.addoption(
        "--buftrace-fail-on",
        metavar="RULES",
        help="fail the session by the rules of `tt-buftrace check`, e.g. excess,held?/test>0",
    )
    group.addoption(
        "--buftrace-probes", metavar="SET", choices=("owners", "full"), help="what is probed: owners (default) or full"
    )
    group.addoption(
        "--buftrace-required", action="store_true", help="fail the session if it can't be recorded from its beginning"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any conftest can load TT-Metal."""
    options = early_config.known_args_namespace
    log = os.environ.get(LOG_VARIABLE)
    if options.buftrace is None:
        _refuse_idle(options)
    if log is not None and Path(log).exists():
        early_config.pluginmanager.register(Member(Log(Path(log)), options.buftrace), "buftrace-member")
    elif options.buftrace is not None and not (options.help or options.version or options.collectonly):
        session = Session(_program(), _trace(options.buftrace, early_config), options)
        early_config.add_cleanup(session.close)
        session.start()
        early_config.pluginmanager.register(session, "buftrace-session")


class Member:
    """In a process that takes part in a recorded session: it waits for the recorder, and tells what went wrong."""

    def __init__(self, log: Log, asked: str | None = None) -> None:
        """`asked` is the file that this process's own options ask for, which a worker of pytest-xdist has as well."""
        self.attachment = Attachment(log)
        self._asked = asked
        self._latest: str | None = None

    def pytest_report_header(self) -> str:
        return "buftrace: recorded by the session that this one is part of"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.attachment.look(self._latest)
        self._latest = item.nodeid

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.attachment.look(self._latest)
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[OUTPUT] = self.attachment.problems

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Workers have no terminal: who has one was started by a test, or by whatever runs in a recorded session."""
        if self._asked is not None:
            said = f"! buftrace: another session records this one: there is no {self._asked}, and no rule is checked"
            terminalreporter.write_line(said, yellow=True)

    def pytest_unconfigure(self) -> None:
        self.attachment.close()


class Session:
    """In the process that the session begins with: the recorder, and what comes of it."""

    def __init__(self, binary: Path, trace: Path, options: Any) -> None:
        self._binary = binary
        self._trace = trace
        self._rules: str | None = options.buftrace_fail_on
        self._required: bool = options.buftrace_required
        self._recorder = Recorder(binary, trace, options.buftrace_probes)
        self._member: Member | None = None
        self._problems: list[str] = []
        self._failures: list[summary.Failure] = []
        self._rows: list[summary.TestRow] | None = None
        self._events = 0
        self._check_rules()

    def start(self) -> None:
        try:
            self._recorder.start()
        except NotRecording as error:
            if self._required:
                raise pytest.UsageError(f"--buftrace-required: {error}") from error
            self._problems.append(f"this session is not recorded: {error}")
            return
        self._member = Member(self._recorder.log)
        os.environ[LOG_VARIABLE] = str(self._recorder.log.path)

    def close(self) -> None:
        """Leaves nothing behind, also where the session did not come to its end."""
        os.environ.pop(LOG_VARIABLE, None)
        if self._member is not None:
            self._member.attachment.close()
        self._recorder.close()

    def pytest_report_header(self) -> list[str]:
        if self._member is None:
            return [f"buftrace: {line}" for problem in self._problems for line in problem.splitlines()]
        by = " by sudo" if self._recorder.by_sudo else ""
        return [f"buftrace: recording{by} to {self._trace}"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._member is not None:
            self._member.pytest_runtest_setup(item)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """What a worker of pytest-xdist has to tell."""
        output = getattr(node, "workeroutput", None) or {}
        self._problems += [f"{node.gateway.id}: {problem}" for problem in output.get(OUTPUT, [])]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """By now the fixtures are torn down and the workers have ended."""
        if self._member is not None:
            self._member.pytest_sessionfinish(session)
            self._problems += self._member.attachment.problems
            self._member = None
            os.environ.pop(LOG_VARIABLE, None)
            late = bool(self._problems)
            try:
                self._recorder.stop()
                self._read()
            except NotRecording as error:
                self._add_failure(error)
                late = True
                if self._rules is not None:
                    self._failures.append(summary.Failure("nothing could be checked"))
            self._recorder.close()
            failed = bool(self._failures) or (self._required and late)
            if failed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        reporter = terminalreporter
        reporter.write_sep("=", "device buffers (tt-buftrace)")
        for line, markup in self._lines(everything=reporter.verbosity > 0):
            reporter.write_line(line, **markup)

    def _lines(self, everything: bool) -> Iterator[tuple[str, dict[str, bool]]]:
        if self._rows is not None:
            yield from summary.table(self._rows, everything)
        shown = self._problems if everything else self._problems[:MOST_PROBLEMS]
        for problem in shown:
            first, *more = problem.splitlines()
            yield f"! {first}", {"yellow": True}
            yield from ((f"  {line}", {}) for line in more)
        if len(shown) < len(self._problems):
            yield f"! and {len(self._problems) - len(shown)} more problems, which -v shows", {"yellow": True}
        for failure in self._failures:
            yield str(failure), {"red": True}
        if self._rows is not None:
            yield f"{self._events} events in {self._trace}; see more: tt-buftrace report {self._trace}", {}

    def _add_failure(self, error: NotRecording) -> None:
        """The process that waited for the recorder may have told the same already."""
        said = self._recorder.log.failure().partition("\n")[0]
        self._problems = [problem for problem in self._problems if not (said and problem.endswith(said))]
        self._problems.append(str(error))

    def _check_rules(self) -> None:
        """A wrong rule is said before the tests are run. `--help` is for the case that it is right."""
        if self._rules is not None:
            result = self._run("check", f"--fail-on={self._rules}", "--help")
            if result.returncode != 0:
                raise pytest.UsageError(f"--buftrace-fail-on: {result.stderr.strip()}")

    def _read(self) -> None:
        """Takes in the trace. There may be one of an earlier session where this one has written none."""
        if not self._recorder.log.has_begun():
            self._problems.append("nothing was recorded, as nothing has loaded TT-Metal")
            return
        report = self._read_json("report", "--top=0")
        self._problems += summary.problems(report)
        self._events = report["integrity"]["events"]
        self._rows = summary.rows(report, self._read_json("held", "--by=test", f"--top={1 << 30}"))
        if self._rules is not None:
            check = self._read_json("check", f"--fail-on={self._rules}")
            self._failures = summary.failures(check)
            self._problems += summary.doubts(check)

    def _read_json(self, *words: str) -> summary.Json:
        result = self._run(*words, "--json", "--", str(self._trace))
        try:
            value: summary.Json = json.loads(result.stdout)
        except ValueError:
            raise NotRecording(f"failed to read {self._trace}: {result.stderr.strip()}") from None
        return value

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self._binary), *words], capture_output=True, encoding="utf-8", errors="replace")


def _program() -> Path:
    found = program()
    if found is None:
        raise pytest.UsageError("--buftrace: the program tt-buftrace is neither in this installation nor on PATH")
    return found


def _refuse_idle(options: Any) -> None:
    """Options that do nothing without `--buftrace`: a rule that never fails a session must not look as if it could."""
    idle = {
        "--buftrace-fail-on": options.buftrace_fail_on,
        "--buftrace-probes": options.buftrace_probes,
        "--buftrace-required": options.buftrace_required,
    }
    for option, value in idle.items():
        if value:
            raise pytest.UsageError(f"{option} is for a session that is recorded: it takes --buftrace, too")


def _trace(given: str, config: pytest.Config) -> Path:
    """The trace file; a test that was taken for it is told."""
    if "::" in given or given.endswith(".py") or Path(given).is_dir():
        raise pytest.UsageError(
            f"--buftrace {given}: this is no file for a trace; --buftrace={TRACE} takes no test for one"
        )
    return Path(config.invocation_params.dir, given).resolve()
