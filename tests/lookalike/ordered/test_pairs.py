# SPDX-License-Identifier: Apache-2.0
"""Allocates and frees as it is told (see orders.py), on a mesh of BUFTRACE_CHIPS chips. For pytest -s."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import lookalike  # noqa: E402
import orders  # noqa: E402


def test_pairs():
    mesh = lookalike.MeshDevice(int(os.environ["BUFTRACE_CHIPS"]))
    create, drop = lookalike.library.la_tensor_create, lookalike.library.la_tensor_drop

    def pair():
        drop(create(mesh._handle, lookalike.DRAM, 4096, 2048))

    orders.obey(pair)
    mesh.close()
