# SPDX-License-Identifier: Apache-2.0
"""Runs `tt-buftrace record` on this process, and reads from what it says on stderr how far it has come."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import PROGRAM

# Seconds.
START = 60.0
ATTACH = 60.0
STOP = 120.0
KILLED = 5.0
POLL = 0.01

# Those that `tt-buftrace doctor` names.
CAPABILITIES = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_sys_admin+ep"

# What `record` says; its own tests rely on these words as well.
WAITING = "waiting: process "
RECORDING = "recording process "
REFUSED = "warning: process {pid} is not recorded: "
ERROR = "error: "

# The exit status of `record` where there was nothing to record.
NOTHING = 1


class NotRecording(Exception):
    """The recorder did not start, or did not come to its end; says why, and what to do."""


class Log:
    """What a recorder says. Any process that knows the path can read it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        """Its whole lines so far."""
        text = self._read()
        return text[: text.rfind("\n") + 1].splitlines()

    def text(self) -> str:
        """All that it said."""
        return self._read().strip()

    def failure(self) -> str:
        """Why it failed, without how far it had come."""
        text = self.text()
        at = text.find(f"\n{ERROR}")
        return text[at + 1 :].removeprefix(ERROR) if at >= 0 else text.removeprefix(ERROR)

    def has_begun(self) -> bool:
        """Whether it has attached to a process, so that there is a trace."""
        return any(line.startswith(RECORDING) for line in self.lines())

    def is_ready(self) -> bool:
        """Whether it sees all that this process and its children do from now on."""
        return any(line.startswith((WAITING, RECORDING)) for line in self.lines())

    def wait_until_attached(self, pid: int, seconds: float = ATTACH) -> str | None:
        """Waits until a process that has loaded TT-Metal is recorded; returns why it is not."""
        deadline = time.monotonic() + seconds
        refused = REFUSED.format(pid=pid)
        while True:
            try:
                lines = self.lines()
            except FileNotFoundError:
                return "the recording has ended"
            for line in lines:
                if line.startswith(f"{RECORDING}{pid} ("):
                    return None
                if line.startswith(refused):
                    return line[len(refused) :]
                if line.startswith(ERROR):
                    return line[len(ERROR) :]
            if time.monotonic() > deadline:
                return f"the recorder did not attach within {seconds:.0f} s"
            time.sleep(POLL)

    def _read(self) -> str:
        return self.path.read_text(encoding="utf-8", errors="replace")


class Recorder:
    """Records this process and its children, from `start` to `stop`."""

    def __init__(self, program: Path, trace: Path, probes: str | None = None) -> None:
        self.trace = trace
        self.by_sudo = False
        self._program = program
        self._options = ["--follow-forks", "-o", str(trace), *(["--probes", probes] if probes else [])]
        self._folder = tempfile.TemporaryDirectory(prefix="tt-buftrace-")
        self._process: subprocess.Popen[bytes] | None = None
        self.log = Log(Path(self._folder.name, "record.log"))

    def start(self) -> None:
        """Returns when nothing is missed from now on. Tries it with the rights that are there, then by sudo."""
        said = self._try([])
        sudo = shutil.which("sudo") if os.geteuid() != 0 else None
        if said is not None and sudo is not None:
            by_sudo = self._try([sudo, "-n", "--"])
            self.by_sudo = by_sudo is None
            said = None if by_sudo is None else f"{said}\n{by_sudo}"
        if said is not None:
            self.close()
            raise NotRecording(f"{said}\n{self._advice()}".strip())

    def stop(self) -> None:
        """Ends the recording, and returns when the trace is whole."""
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                os.kill(self._pid(process.pid), signal.SIGINT)
            process.wait(STOP)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotRecording(f"the recorder could not be stopped: {error}") from error
        self._process = None
        if process.returncode < 0:
            by = signal.Signals(-process.returncode).name
            left = f"; what it had recorded by then is in {self.trace}" if self.log.has_begun() else ""
            raise NotRecording(f"the recorder was killed by {by}{left}")
        nothing = process.returncode == NOTHING and not self.log.has_begun()
        if process.returncode != 0 and not nothing:
            raise NotRecording(f"the recorder failed: {self.log.failure()}")

    def close(self) -> None:
        """Leaves nothing behind, whatever happened."""
        self._kill()
        self._folder.cleanup()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            # What is not ours to kill ends by itself, at the latest with this process.
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                os.kill(self._pid(process.pid), signal.SIGKILL)
                process.wait(KILLED)

    def _try(self, prefix: list[str]) -> str | None:
        """What it said if it did not start."""
        command = [*prefix, str(self._program), "record", "-p", str(os.getpid()), *self._options]
        with self.log.path.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_own_group())
        deadline = time.monotonic() + START
        while not self.log.is_ready():
            if self._process.poll() is not None:
                self._process = None
                return self.log.failure()
            if time.monotonic() > deadline:
                self._kill()
                return f"{' '.join(command)} said nothing within {START:.0f} s"
            time.sleep(POLL)
        return None

    def _pid(self, started: int) -> int:
        """The recorder's own: sudo, which is root's, can't be signalled, but what it starts becomes the user's."""
        pid = started
        while Path(f"/proc/{pid}/comm").read_text().strip() != PROGRAM:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children:
                break
            pid = int(children[0])
        return pid

    def _advice(self) -> str:
        if os.geteuid() == 0:
            return ""
        return (
            "what gives this session the rights: capabilities for the program (again after each installation), a sudo "
            f"that asks for no password, or pytest as root\nsudo setcap {CAPABILITIES} {self._program}"
        )


def _own_group() -> dict[str, Any]:
    """Ctrl-C in the terminal is for the tests; the recorder is stopped when these have ended."""
    return {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
