# SPDX-License-Identifier: Apache-2.0
"""Allocates and frees in several threads at once: threads.py [THREADS [PAIRS]]. Each thread's tensors have its own size."""

import sys
import threading

import attach
import lookalike

threads = int(sys.argv[1]) if len(sys.argv) > 1 else 4
pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
mesh = lookalike.MeshDevice()
attach.wait_for_tracer()


def allocate(number):
    for _ in range(pairs):
        mesh.empty(2048 * (number + 1)).drop()


running = [threading.Thread(target=allocate, args=(number,)) for number in range(threads)]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
mesh.close()
