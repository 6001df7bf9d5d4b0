# SPDX-License-Identifier: Apache-2.0
"""Fills L1 memory with buffers of odd sizes until a request fails, and writes down what that says of the banks."""

import os

import attach
import lookalike

truth = attach.Truth()
mesh = lookalike.MeshDevice()
attach.wait_for_tracer()
kept = [mesh.empty(2048 * pages, buffer_type=lookalike.L1) for pages in (1, 2, 131, 400)]
kept.pop(0).drop()
kept += [mesh.empty(size, page_size=size, buffer_type=lookalike.L1) for size in (100, 4096)]
dram = mesh.empty(1 << 20)
try:
    mesh.empty(1 << 30, buffer_type=lookalike.L1)
except RuntimeError as error:
    truth.write("failed", error=str(error))
# At an end, nothing is freed any more.
os._exit(0)
