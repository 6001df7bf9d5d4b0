# SPDX-License-Identifier: Apache-2.0
"""Allocates and frees from every kind of Python caller, and logs the Python stack of each as the interpreter has it.

A line of the truth is {"action": "request" or "free", "frames": [[file, line, function], ...]}, the innermost first. What
is noted and what is called are on one line each, so that both have the same line number.
"""

import asyncio
import ctypes
import functools
import sys
import threading
import time

import attach
import lookalike

create, drop = lookalike.library.la_tensor_create, lookalike.library.la_tensor_drop
# Code that was compiled at run time: a recorder that reads names later must find it alive.
kept = []


def note(action, depth=1):
    frames = []
    frame = sys._getframe(depth)
    while frame:
        code = frame.f_code
        frames.append([code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name)])
        frame = frame.f_back
    lookalike.truth.write(action, frames=frames)


def allocate():
    note("request"); return create(mesh._handle, lookalike.DRAM, 4096, 2048)  # fmt: skip


def free(handle):
    note("free"); drop(handle)  # fmt: skip


def both(*_):
    free(allocate())
    return 0


def recurse(depth):
    if depth:
        return recurse(depth - 1)
    return both()


def generate(count):
    for _ in range(count):
        yield allocate()


def delegate(count):
    yield from generate(count)


async def allocate_later():
    await asyncio.sleep(0)
    return allocate()


async def gather():
    handles = await asyncio.gather(allocate_later(), allocate_later())
    async for handle in iterate(handles):
        free(handle)


async def iterate(handles):
    for handle in handles:
        yield handle


def decorate(function):
    @functools.wraps(function)
    def wrapper(*arguments, **keywords):
        return function(*arguments, **keywords)

    return wrapper


@decorate
@functools.lru_cache(maxsize=None)
def decorated():
    both()


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def compare(_left, _right):
    both()
    return 0


def sort_in_c():
    libc = ctypes.CDLL(None)
    numbers = (ctypes.c_int * 2)(2, 1)
    libc.qsort(numbers, 2, ctypes.sizeof(ctypes.c_int), CALLBACK(compare))


def raise_and_catch():
    try:
        try:
            raise ValueError("wanted")
        finally:
            handle = allocate()
    except ValueError:
        free(
            handle
        )


class Dying:
    def __init__(self):
        self.handle = allocate()

    def __del__(self):
        free(self.handle)


def die():
    dying = Dying()
    return dying.__class__


class Attribute:
    @property
    def value(self):
        return both()

    def __getattr__(self, name):
        return both()

    def __lt__(self, other):
        both()
        return True


def unicode_имя():
    both()


def in_a_thread_of_python():
    thread = threading.Thread(target=recurse, args=(3,))
    thread.start()
    thread.join()


def run_on_a_native_thread(routine, argument):
    """`routine` is called by a thread that Python knows nothing of."""
    libc = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    libc.pthread_create.argtypes = [ctypes.c_void_p] * 4
    libc.pthread_join.argtypes = [ctypes.c_ulong, ctypes.c_void_p]
    assert libc.pthread_create(ctypes.byref(thread), None, ctypes.cast(routine, ctypes.c_void_p), argument) == 0
    assert libc.pthread_join(thread, None) == 0


def free_on_a_native_thread():
    handle = allocate()
    lookalike.truth.write("free", frames=[])
    run_on_a_native_thread(drop, handle)


ROUTINE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


def called_by_a_native_thread(_):
    both()


def call_from_a_native_thread():
    routine = ROUTINE(called_by_a_native_thread)
    run_on_a_native_thread(routine, None)


def run_compiled():
    for number in range(3):
        code = compile("\n" * number + "def made():\n    x = 1\n    both()\nmade()", f"<made {number}>", "exec")
        kept.append(code)
        exec(code, {"both": both})


def spread(
    first,
    second,
):
    return [
        first,
        second,
        both(),
    ]


def call_all():
    recurse(1)
    recurse(60)
    for handle in delegate(2):
        free(handle)
    asyncio.run(gather())
    decorated()
    sort_in_c()
    sorted([3, 1, 2], key=both)
    functools.reduce(lambda left, right: both(), [1, 2, 3])
    list(map(both, [1, 2]))
    [both() for _ in range(2)]
    {number: both() for number in range(2)}
    list(both() for _ in range(2))
    (lambda: (lambda: both())())()
    raise_and_catch()
    die()
    attribute = Attribute()
    attribute.value
    attribute.missing
    sorted([attribute, Attribute()])
    unicode_имя()
    spread(
        1,
        second=2,
    )

    class Body:
        field = both()

    run_compiled()
    in_a_thread_of_python()
    free_on_a_native_thread()
    call_from_a_native_thread()
    recurse(400)


mesh = lookalike.MeshDevice()
attach.wait_for_tracer()
call_all()
mesh.close()
# The recorder looks every few milliseconds, and names of functions are read while the process lives.
time.sleep(0.5)
