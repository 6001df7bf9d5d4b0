# SPDX-License-Identifier: Apache-2.0
"""How a target and a test that traces it work together. Three environment variables, all optional:

BUFTRACE_READY_FILE  the target writes its PID there when what is to be allocated before a tracer attaches is allocated
BUFTRACE_GO_FILE     after that, the target waits until this file is there
BUFTRACE_TRUTH       the target appends there what it does, one JSON object a line, for comparison with the trace
"""

import json
import os
import sys
import time

# So many times as long where the machine is so many times slower.
WAIT_SECONDS = 120 * int(os.environ.get("BUFTRACE_SLOWNESS", "1"))
POLL_SECONDS = 0.01


def wait_for_tracer():
    """Says that the target is ready to be traced and, if asked to, waits until it is traced."""
    ready_file = os.environ.get("BUFTRACE_READY_FILE")
    go_file = os.environ.get("BUFTRACE_GO_FILE")
    if ready_file:
        # Written whole or not at all: who polls for the file reads the PID at once.
        with open(f"{ready_file}.new", "w") as file:
            file.write(f"{os.getpid()}\n")
        os.rename(f"{ready_file}.new", ready_file)
    if ready_file or go_file:
        print(f"ready {os.getpid()}", file=sys.stderr, flush=True)
    if go_file:
        deadline = time.monotonic() + WAIT_SECONDS
        while not os.path.exists(go_file):
            if time.monotonic() > deadline:
                sys.exit(f"no tracer came within {WAIT_SECONDS} s: {go_file} is not there")
            time.sleep(POLL_SECONDS)


class Truth:
    """The log of what the target did, in order. Without BUFTRACE_TRUTH, it goes nowhere."""

    def __init__(self):
        path = os.environ.get("BUFTRACE_TRUTH")
        # A plain descriptor: nothing is buffered, so that neither a kill nor a fork loses or repeats a line, and nothing
        # is closed while the interpreter ends and tensors still die.
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if path else None

    @property
    def wanted(self):
        return self._descriptor is not None

    def write(self, action, **details):
        """One line: the action, its details, the process, and the test and phase that pytest is in."""
        if self._descriptor is None:
            return
        line = {"action": action, **details, "pid": os.getpid(), "test": os.environ.get("PYTEST_CURRENT_TEST", "")}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")
