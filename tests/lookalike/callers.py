# SPDX-License-Identifier: Apache-2.0
"""callers.py [THREADS]: allocates and frees from every kind of Python caller, and logs the Python stack of each as the
interpreter has it.

A line of the truth is {"action": "request" or "free", "size": bytes, "frames": [[file, line, function], ...]}, the
innermost first. What is noted and what is called are on one line each, so that both have the same line number. Each of the
threads that run at once has a size of its own.

Without LOOKALIKE_LIBRARY it is ttnn that allocates and frees.
"""

import asyncio
import contextlib
import ctypes
import functools
import gc
import os
import sys
import threading
import time
import weakref

import attach

REAL = "LOOKALIKE_LIBRARY" not in os.environ
if REAL:
    import ttnn
else:
    import lookalike
    from lookalike import library

    create, drop = library.la_tensor_create, library.la_tensor_drop
truth = attach.Truth()
threads = int(sys.argv[1]) if len(sys.argv) > 1 else 6
# Code that was compiled at run time: a recorder that reads names later must find it alive.
kept = []


# The size of a tensor in each thread.
own = threading.local()
SIZE = 4096


def note(action, depth=1):
    frames = []
    frame = sys._getframe(depth)
    while frame:
        code = frame.f_code
        frames.append([code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name)])
        frame = frame.f_back
    truth.write(action, size=size(), frames=frames)


def size():
    return getattr(own, "size", SIZE)


def allocate():
    if REAL:
        shape = [32, size() // 64]
        note("request"); return ttnn.empty(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)  # fmt: skip
    note("request"); return create(mesh._handle, lookalike.DRAM, size(), 2048)  # fmt: skip


def free(tensor):
    if REAL:
        note("free"); return ttnn.deallocate(tensor)  # fmt: skip
    note("free"); drop(tensor)  # fmt: skip


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


def sort_in_c_in_python_in_c(depth):
    """C calls Python calls C calls Python."""
    libc = ctypes.CDLL(None)
    numbers = (ctypes.c_int * 2)(2, 1)

    def compare_deeper(_left, _right):
        sort_in_c_in_python_in_c(depth - 1) if depth else both()
        return 0

    libc.qsort(numbers, 2, ctypes.sizeof(ctypes.c_int), CALLBACK(compare_deeper))


def recurse_through_c(depth):
    return max([depth], key=lambda number: recurse_through_c(number - 1) if number else both())


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


class Referenced:
    """Freed by the callback of a weak reference to it."""


def die_referenced():
    referenced = Referenced()
    handle = allocate()
    weakref.finalize(referenced, free, handle)
    reference = weakref.ref(referenced, lambda _: both())
    del referenced
    return reference


def die_by_collection():
    dying = Dying()
    dying.itself = dying
    del dying
    gc.collect()


@contextlib.contextmanager
def context():
    handle = allocate()
    try:
        yield
    finally:
        free(handle)


def leave_generator_early():
    """Closing runs what is left of it."""

    def generator():
        try:
            yield allocate()
        finally:
            both()

    running = generator()
    free(next(running))
    running.close()


def throw_into_generator():
    def generator():
        try:
            yield
        except KeyError:
            both()
            yield

    running = generator()
    next(running)
    running.throw(KeyError("wanted"))


async def wait_in_tasks():
    """Tasks of which one is cancelled, and callbacks of the loop."""

    async def nested(depth):
        if depth:
            return await nested(depth - 1)
        await asyncio.sleep(0)
        both()

    async def cancelled():
        try:
            await asyncio.sleep(60)
        finally:
            both()

    task = asyncio.ensure_future(cancelled())
    asyncio.get_running_loop().call_soon(both)
    await asyncio.gather(nested(5), nested(20))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    async with Entered():
        both()


class Entered:
    async def __aenter__(self):
        both()

    async def __aexit__(self, *_):
        both()


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


def in_many_threads_at_once(count):
    together = threading.Barrier(count)

    def work(number):
        own.size = SIZE + 2048 * (number + 1)
        together.wait()
        for _ in range(20):
            recurse(number)
            sort_in_c_in_python_in_c(1)
            # Another thread's turn.
            time.sleep(0.0001)

    running = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def fork():
    """The child is another process, which nobody asked to record; both go on."""
    both()
    child = os.fork()
    if not child:
        if not REAL:
            drop(create(mesh._handle, lookalike.DRAM, SIZE, 2048))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    both()


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
    truth.write("free", size=SIZE, frames=[])
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


def run_compiled_and_dropped():
    # Each time the code objects are where the last ones were. They live until a recorder has read their names.
    for number in range(6):
        exec(f"def made_{number}():\n" + "\n" * number + "    both()\nmade_%d()\ntime.sleep(0.2)" % number, {"both": both, "time": time})


def take_turns(count):
    """From one line, code in turn that differs, at depths that change: its frames are where the last ones were."""
    for turn in range(count):
        made = {"both": both}
        exec(f"def turn_{turn}(depth):\n    return turn_{turn}(depth - 1) if depth else both()", made)
        kept.append(made)
    for turn in range(2 * count):
        number = turn % count
        kept[number - count][f"turn_{number}"](turn % 5 * 3)


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
    functools.partial(functools.partial(both, 1), 2)()
    asyncio.run(wait_in_tasks())
    with context():
        both()
    leave_generator_early()
    throw_into_generator()
    sort_in_c()
    sort_in_c_in_python_in_c(5)
    recurse_through_c(20)
    sorted([3, 1, 2], key=both)
    functools.reduce(lambda left, right: both(), [1, 2, 3])
    list(map(both, [1, 2]))
    [both() for _ in range(2)]
    {number: both() for number in range(2)}
    list(both() for _ in range(2))
    (lambda: (lambda: both())())()
    raise_and_catch()
    die()
    die_referenced()
    die_by_collection()
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
    run_compiled_and_dropped()
    take_turns(12)
    in_a_thread_of_python()
    if not REAL:
        free_on_a_native_thread()
    call_from_a_native_thread()
    if threads:
        in_many_threads_at_once(threads)
    fork()
    recurse(400)


mesh = ttnn.open_mesh_device(ttnn.MeshShape(2, 4)) if REAL else lookalike.MeshDevice()
attach.wait_for_tracer()
call_all()
if REAL:
    ttnn.close_mesh_device(mesh)
else:
    mesh.close()
# The recorder looks every few milliseconds, and names of functions are read while the process lives.
time.sleep(0.5)
