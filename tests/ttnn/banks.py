# SPDX-License-Identifier: Apache-2.0
"""Allocates tensors of several layouts, lets a request fail, and writes down what ttnn says of the banks."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lookalike"))

import ttnn  # noqa: E402

import attach  # noqa: E402
import tensors  # noqa: E402

mesh = tensors.Mesh()
attach.wait_for_tracer()
kept = [mesh.empty((1, 1, 32 * rows, 64), l1=True) for rows in (1, 2, 100)]
kept.pop(0).drop()
kept.append(mesh.sharded((1, 1, 128, 64), cores=4))
kept += [mesh.empty((1, 1, 512, 512)), mesh.empty((1, 1, 32, 32))]
kept.append(tensors.add(kept[-1], kept[-1]))
for number, buffer_type in enumerate((ttnn.BufferType.DRAM, ttnn.BufferType.L1)):
    view = ttnn.get_memory_view(mesh.device, buffer_type)
    tensors.truth.write("view", type=number, allocated=view.total_bytes_allocated_per_bank)
try:
    mesh.empty((1, 1, 1 << 14, 1 << 14), l1=True)
except RuntimeError:
    # What it says is written down.
    pass
# At an end, nothing is freed any more.
os._exit(0)
