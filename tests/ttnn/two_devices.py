# SPDX-License-Identifier: Apache-2.0
"""Frees on a device that is open, after another one was closed: ttnn's own count of what is allocated goes on growing."""

import os
import pathlib
import sys

import ttnn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lookalike"))

import attach  # noqa: E402

BEFORE, SINCE = 2, 3

truth = attach.Truth()
attach.wait_for_tracer()
device = ttnn.open_device(device_id=0)
other = ttnn.open_device(device_id=1)


def taken():
    return ttnn.get_memory_view(device, ttnn.BufferType.L1).total_bytes_allocated_per_bank


def make():
    return ttnn.empty((1, 1, 64, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, device, ttnn.L1_MEMORY_CONFIG)


def free(tensor):
    before = taken()
    ttnn.deallocate(tensor)
    return before - taken()


assert free(make()) > 0, "the memory was not given back"
tensors = [make() for _ in range(BEFORE)]
ttnn.close_device(other)
for tensor in tensors + [make() for _ in range(SINCE)]:
    assert free(tensor) == 0, "the memory was given back"
kept = make()
truth.write("taken", bytes=taken())
# To close the device now, or to let the interpreter do that, aborts the process in some releases.
os._exit(0)
