# SPDX-License-Identifier: Apache-2.0
"""dropped.py COUNT: allocates and frees from so many functions that are made, called once and dropped, without a pause: mostly
their code is gone, or other code is where it was, before a recorder reads it. It goes on until the function that frees code is
probed no more, puts others in the place of some that were called before, and calls those when it is probed again. The truth is
as in callers.py, with a line for each time that it came to be probed, or not to be, as the process's own memory says.
"""

import ctypes
import itertools
import sys
import time

import attach
import lookalike
from lookalike import library

# Offset of `tp_dealloc` in a type object, and what a function may begin with.
TP_DEALLOC, ENDBR64, BREAKPOINT = 48, bytes.fromhex("f30f1efa"), b"\xcc"

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


def make(number):
    made = {"both": both}
    # Every fiftieth has the same shape, and often the same address.
    body = "\n" * (number % 50) + f"def made_{number}():\n    return both({4096 * (number + 1)})\n"
    exec(compile(body, f"<made {number}>", "exec"), made)
    return made[f"made_{number}"]


def make_some():
    return [make(next(numbers)) for _ in range(200)]


def drop_code(function):
    # It is in there itself.
    function.__globals__.clear()


def churn(number):
    function = make(number)
    function()
    drop_code(function)
    for other in range(20):
        compile(f"x_{other} = {other}", "<other>", "exec")


def is_probed():
    return ctypes.string_at(destructor, 1) == BREAKPOINT


def note_probed():
    truth.write("probed", value=is_probed())


destructor = ctypes.c_uint64.from_address(id(type(note.__code__)) + TP_DEALLOC).value
if ctypes.string_at(destructor, 4) == ENDBR64:
    destructor += 4
mesh = lookalike.MeshDevice()
attach.wait_for_tracer()
numbers = itertools.count()
note_probed()
old = make_some()
for function in old:
    function()
for number in itertools.islice(numbers, int(sys.argv[1])):
    churn(number)
end = time.monotonic() + attach.WAIT_SECONDS
while is_probed() and time.monotonic() < end:
    churn(next(numbers))
note_probed()
while old:
    drop_code(old.pop())
new = make_some()
while not is_probed() and time.monotonic() < end:
    time.sleep(0.01)
# The recorder puts it in a little before it relies on it.
time.sleep(0.5)
note_probed()
for function in new:
    function()
mesh.close()
time.sleep(0.5)
