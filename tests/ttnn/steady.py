# SPDX-License-Identifier: Apache-2.0
"""Makes tensors at a steady rate for some time, and prints how many: steady.py SECONDS RATE.

They are of several sizes, in DRAM and in L1, made at several depths of Python calls, and freed by hand or by being dropped;
some are results of an operation. A few live on for a while.
"""

import collections
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lookalike"))

import attach  # noqa: E402
import tensors  # noqa: E402

KEPT = 100
DEPTHS = 8
OPERATION_EVERY = 50

seconds, rate = float(sys.argv[1]), float(sys.argv[2])
mesh = tensors.Mesh()
addend = mesh.empty((1, 1, 32, 32))
kept = collections.deque()


def make(number, depth):
    if depth > 0:
        return make(number, depth - 1)
    if number % OPERATION_EVERY == 0:
        return tensors.add(addend, addend)
    return mesh.empty((1, 1, 32, 32 * (1 + number % 5)), l1=number % 3 == 0)


def give_up(number, tensor):
    if number % 2 == 0:
        tensor.deallocate()
    else:
        tensor.drop()


attach.wait_for_tracer()
begin = time.monotonic()
number = 0
while time.monotonic() - begin < seconds:
    kept.append(make(number, number % DEPTHS))
    if len(kept) > KEPT:
        give_up(number, kept.popleft())
    number += 1
    time.sleep(max(0.0, begin + number / rate - time.monotonic()))
kept.clear()
mesh.close()
print(number)
