# SPDX-License-Identifier: Apache-2.0
"""Allocates, runs out of memory and forks, round by round, until its ready file is taken away.

Prints what a round came to, each different outcome once, and ends with code 7.
"""

import os
import sys

import attach
import lookalike

mesh = lookalike.MeshDevice(1)


def fill():
    """Allocates until there is no room: the tensors, and what the library said."""
    held = []
    try:
        while True:
            held.append(mesh.empty(1 << 30))
    except RuntimeError as error:
        return held, str(error)


def run():
    held, said = fill()
    addresses = [tensor.address for tensor in held]
    child = os.fork()
    if child == 0:
        for tensor in held:
            tensor.drop()
        os._exit(len(fill()[0]))
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for tensor in held:
        tensor.drop()
    return f"{said}; {addresses}; the child ended with {ended}"


outcomes = {run()}
attach.wait_for_tracer()
ready = os.environ.get("BUFTRACE_READY_FILE", "")
while os.path.exists(ready):
    outcomes.add(run())
for outcome in sorted(outcomes):
    print(outcome)
mesh.close()
sys.exit(7)
