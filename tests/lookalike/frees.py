# SPDX-License-Identifier: Apache-2.0
"""Frees one buffer again and again, which changes nothing but hits one probe: frees.py NATIVE PYTHON.

The calls nest: NATIVE times through C code (each some seven native frames), PYTHON times from Python to Python. For each
line of standard input, a number of frees, it prints `took` and how many nanoseconds one took.
"""

import sys
import time

import attach
import lookalike
from lookalike import library

native, python = int(sys.argv[1]), int(sys.argv[2])
mesh = lookalike.MeshDevice(1)
buffer = mesh.empty(4096).share()
free, handle = library.la_buffer_deallocate, buffer._handle
free(handle)


def nested(depth, count):
    if depth > 0:
        return list(map(nested, [depth - 1], [count]))[0]
    return straight(python, count)


def straight(depth, count):
    if depth > 0:
        return straight(depth - 1, count)
    begin = time.perf_counter_ns()
    for _ in range(count):
        free(handle)
    return (time.perf_counter_ns() - begin) / count


attach.wait_for_tracer()
for line in sys.stdin:
    print("took", nested(native, int(line)), flush=True)
