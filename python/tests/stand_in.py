# SPDX-License-Identifier: Apache-2.0
"""Stands in for the program tt-buftrace: does what STAND_IN says, and notes how it was called in `calls`."""

import json
import os
import pathlib
import signal
import sys
import time

ORDERS = json.loads(os.environ["STAND_IN"])
FOLDER = pathlib.Path(os.environ["STAND_IN_FOLDER"])
INTEGRITY = {
    "events": 14,
    "losses": [{"events": 3}] if ORDERS.get("lossy") else [],
    "problems": ["it is odd"] * ORDERS.get("odd", 0),
}
VERDICTS = [
    {"verdict": "released", "colour": "normal"},
    {"verdict": "repeat", "colour": "excess"},
    {"verdict": "held", "colour": "yellow"},
]
ROWS = [
    {
        "test": "test_it.py::test_good",
        "allocations": 2,
        "frees": 2,
        "verdicts": [{"verdict": "released", "count": 2}],
    },
    {
        "test": "test_it.py::test_bad",
        "allocations": 3,
        "frees": 2,
        "verdicts": [
            {"verdict": "released", "count": 2},
            {"verdict": "repeat", "count": 1},
            {"verdict": "held", "count": 1},
        ],
    },
]
ANSWERS = {
    "report": {
        "totals": [{"found": ORDERS.get("found", 0)}, {"found": 0}],
        "integrity": INTEGRITY,
        "verdicts": VERDICTS,
        "tests": ROWS,
    },
    "held": {"groups": [{"until": "stop", "name": "test_it.py::test_bad", "bytes": 65536}]},
    "check": {
        "passed": False,
        "rules": [
            {
                "rule": "excess",
                "subject": "excess",
                "with_possible": False,
                "passed": False,
                "count": 1,
                "possible": 0,
                "tests": [],
                "findings": [{"test": "test_it.py::test_bad", "confirmed": 1, "possible": 0}],
            },
            {
                "rule": "held",
                "subject": "held",
                "with_possible": False,
                "passed": True,
                "count": 0,
                "possible": 3,
                "tests": [],
                "findings": [],
            },
        ],
    },
}


def record(words):
    if ORDERS.get("denied") and "SUDO" not in os.environ:
        sys.exit("error: tracing is not possible here:\nfail rights       without CAP_BPF and CAP_PERFMON")
    # Until it is asked to stop.
    signal.signal(signal.SIGINT, lambda *_: end())
    pid = words[words.index("-p") + 1]
    print(
        f"waiting: process {pid} (pytest) has not loaded TT-Metal yet; Ctrl-C stops waiting",
        file=sys.stderr,
        flush=True,
    )
    while True:
        for loaded in FOLDER.glob("loaded-*"):
            time.sleep(0.2)
            if ORDERS.get("refused"):
                print("error: failed to record: this build is not known", file=sys.stderr, flush=True)
                sys.exit(2)
            pid = loaded.name.removeprefix("loaded-")
            loaded.rename(FOLDER / f"attached-{pid}")
            print(f"recording process {pid} (pytest): 21 probes in libtt_metal.so", file=sys.stderr, flush=True)
            if ORDERS.get("killed"):
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)


def end():
    if ORDERS.get("full"):
        print("error: failed to write: the disk is full", file=sys.stderr, flush=True)
        sys.exit(2)
    # That nothing was recorded is no success.
    sys.exit(0 if any(FOLDER.glob("attached-*")) else 1)


def main():
    command, *words = sys.argv[1:]
    with (FOLDER / "calls").open("a") as calls:
        calls.write(" ".join([command, *words]) + "\n")
    if command == "record":
        record(words)
    elif "--help" in words:
        sys.exit("error: invalid value 'leak' for '--fail-on <RULE>'" if "--fail-on=leak" in words else 0)
    else:
        print(json.dumps(ANSWERS[command]))


main()
