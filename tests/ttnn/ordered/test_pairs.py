# SPDX-License-Identifier: Apache-2.0
"""Allocates and frees as it is told (see orders.py), on BUFTRACE_CHIPS mock chips. For pytest -s.

BUFTRACE_MAPPED names library files, with colons between them, that are loaded as well: others that a process has.
"""

import ctypes
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lookalike"))

import ttnn  # noqa: E402

import orders  # noqa: E402

for library in filter(None, os.environ.get("BUFTRACE_MAPPED", "").split(":")):
    ctypes.CDLL(library, ctypes.RTLD_GLOBAL)


def test_pairs():
    chips = int(os.environ["BUFTRACE_CHIPS"])
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 1) if chips == 1 else ttnn.MeshShape(2, chips // 2))
    shape, memory = [1, 1, 32, 64], ttnn.DRAM_MEMORY_CONFIG

    def pair():
        ttnn.deallocate(ttnn.empty(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, memory))

    orders.obey(pair)
    ttnn.close_mesh_device(mesh)
