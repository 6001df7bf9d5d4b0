# SPDX-License-Identifier: Apache-2.0
"""dropped.py COUNT: allocates and frees from so many functions that are made, called once and dropped, without a pause: mostly
their code is gone, or other code is where it was, before a recorder reads it. The truth is as in callers.py.
"""

import sys
import time

import attach
import lookalike
from lookalike import library

create, drop = library.la_tensor_create, library.la_tensor_drop
truth = attach.Truth()


def note(action, size):
    frames = []
    frame = sys._getframe(1)
    while frame:
        code = frame.f_code
        frames.append([code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name)])
        frame = frame.f_back
    truth.write(action, size=size, frames=frames)


def both(size):
    note("request", size); tensor = create(mesh._handle, lookalike.DRAM, size, 2048)  # fmt: skip
    note("free", size); drop(tensor)  # fmt: skip


mesh = lookalike.MeshDevice()
attach.wait_for_tracer()
for number in range(int(sys.argv[1])):
    made = {"both": both}
    # Every fiftieth has the same shape, and often the same address.
    body = "\n" * (number % 50) + f"def made_{number}():\n    return both({4096 * (number + 1)})\n"
    exec(compile(body, f"<made {number}>", "exec"), made)
    made[f"made_{number}"]()
    made.clear()
    for other in range(20):
        compile(f"x_{other} = {other}", "<other>", "exec")
mesh.close()
time.sleep(0.5)
