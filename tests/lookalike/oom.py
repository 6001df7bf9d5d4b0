# SPDX-License-Identifier: Apache-2.0
"""Runs out of memory, says so, and ends with code 7 as a program does that handles it."""

import sys

import attach
import lookalike

mesh = lookalike.MeshDevice()
attach.wait_for_tracer()
held = []
try:
    while True:
        held.append(mesh.empty(1 << 30))
except RuntimeError as error:
    print(error)
    sys.exit(7)
