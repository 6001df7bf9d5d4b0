# SPDX-License-Identifier: Apache-2.0
"""Allocates and frees at full speed: burst.py [PAIRS [CHIPS]]. Prints the microseconds a pair."""

import sys
import time

import attach
import lookalike
from lookalike import library

pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
chips = int(sys.argv[2]) if len(sys.argv) > 2 else 1
mesh = lookalike.MeshDevice(chips)
attach.wait_for_tracer()
create, drop = library.la_tensor_create, library.la_tensor_drop
begin = time.perf_counter()
for _ in range(pairs):
    drop(create(mesh._handle, lookalike.DRAM, 4096, 2048))
print(f"{(time.perf_counter() - begin) / pairs * 1e6:.2f}")
lookalike.write_truth()
mesh.close()
