# SPDX-License-Identifier: Apache-2.0
"""A target whose names are made to mislead whoever prints them: its own, its thread's, its test's, its functions' and files'.

The library's path and the arguments are hostile if they are given so."""

import ctypes
import os
import time

import attach
import lookalike

# Clears the screen, sets the window's title, begins a line of its own, and turns the direction of writing.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\nFORGED \u202e"
PR_SET_NAME = 15


def hostile_function():
    """A function that calls what it is given, with a hostile name, in a hostile file."""
    scope = {}
    exec(compile("def call(what):\n    return what()\n", f"/src/{HOSTILE}.py", "exec"), scope)
    code = scope["call"].__code__
    names = {"co_name": f"call{HOSTILE}"}
    if hasattr(code, "co_qualname"):
        names["co_qualname"] = f"Class.call{HOSTILE}"
    scope["call"].__code__ = code.replace(**names)
    return scope["call"]


call = hostile_function()
mesh = lookalike.MeshDevice(1)
ctypes.CDLL(None).prctl(PR_SET_NAME, b"\x1b[2J\nFORGED")
attach.wait_for_tracer()
os.environ["PYTEST_CURRENT_TEST"] = f"test_a.py::test_{HOSTILE} (call)"
tensor = call(lambda: mesh.empty(4096))
call(tensor.deallocate)
call(tensor.deallocate)
held = call(lambda: mesh.empty(8192))
mesh.close()
# Names of Python code are read from whoever is there still.
time.sleep(1)
