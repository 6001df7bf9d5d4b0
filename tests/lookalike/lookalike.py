# SPDX-License-Identifier: Apache-2.0
"""The look-alike library in Python. LOOKALIKE_LIBRARY names the library file.

An object's native part lives as long as the object does, as ttnn's do. Everything that the library did is written to the
truth file (see attach.py) with the library's own account of it: `allocated`, `reported`, `released`, `deallocate`,
`marked`, `destroyed`, `bulk` and `closed`, explained in src/api.h. A request that failed shows as an owner that was
`destroyed` with status 0.
"""

import atexit
import contextlib
import ctypes
import os
import threading

import attach

DRAM, L1, L1_SMALL, TRACE = 0, 1, 3, 4
REQUESTED, ALLOCATED, DEALLOCATED = 0, 1, 2
ACTIONS = {
    1: "allocated",
    2: "reported",
    3: "released",
    4: "deallocate",
    5: "marked",
    6: "destroyed",
    7: "bulk",
    8: "closed",
}


class Entry(ctypes.Structure):
    """What the library says about a buffer, or about one of its actions."""

    _fields_ = [
        ("unique_id", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("action", ctypes.c_uint32),
        ("buffer_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("status", ctypes.c_uint8),
        ("owns", ctypes.c_uint8),
        ("hooked", ctypes.c_uint8),
        ("padding", ctypes.c_uint8),
    ]


def _load():
    path = os.environ.get("LOOKALIKE_LIBRARY")
    if not path:
        raise ImportError("LOOKALIKE_LIBRARY must name a libtt_metal.so that build.py built")
    library = ctypes.CDLL(path)
    pointer, number, size, nothing = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, None
    entry = ctypes.POINTER(Entry)
    for name, result, *arguments in [
        ("la_last_error", ctypes.c_char_p),
        ("la_mesh_open", pointer, number),
        ("la_mesh_submesh", pointer, pointer, number),
        ("la_mesh_id", number, pointer),
        ("la_mesh_close", nothing, pointer),
        ("la_mesh_drop", nothing, pointer),
        ("la_mesh_release_all", nothing, pointer),
        ("la_mesh_cache_program", nothing, pointer, pointer),
        ("la_mesh_clear_program_cache", nothing, pointer),
        ("la_mesh_release_address", nothing, pointer, number, size),
        ("la_tensor_create", pointer, pointer, number, size, size),
        ("la_tensor_at", pointer, pointer, number, size, size, size),
        ("la_tensor_deallocate", nothing, pointer),
        ("la_tensor_drop", nothing, pointer),
        ("la_tensor_describe", nothing, pointer, entry),
        ("la_buffer_share", pointer, pointer),
        ("la_buffer_view", pointer, pointer),
        ("la_buffer_adopt", pointer, pointer),
        ("la_buffer_deallocate", nothing, pointer),
        ("la_buffer_drop", nothing, pointer),
        ("la_buffer_release", nothing, pointer),
        ("la_buffer_describe", nothing, pointer, entry),
        ("la_cache_new", pointer),
        ("la_cache_keep", nothing, pointer, pointer),
        ("la_cache_clear", nothing, pointer),
        ("la_cache_drop", nothing, pointer),
        ("la_program_new", pointer),
        ("la_program_keep", nothing, pointer, pointer),
        ("la_program_keep_buffer", nothing, pointer, pointer),
        ("la_program_run", nothing, pointer, pointer),
        ("la_program_drop", nothing, pointer),
        ("la_shelf_new", pointer, number),
        ("la_shelf_put", nothing, pointer, pointer),
        ("la_shelf_clear", nothing, pointer),
        ("la_shelf_drop", nothing, pointer),
        ("la_report_chips", nothing, number, number),
        ("la_capture_begin", number),
        ("la_capture_end", nothing),
        ("la_log_enable", nothing, number),
        ("la_log_size", size),
        ("la_log_entry", number, size, entry),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


library = _load()
truth = attach.Truth()
library.la_log_enable(int(truth.wanted))
_written = 0
_writing = threading.Lock()


def write_truth():
    """Writes what the library did since the last time."""
    global _written
    if not truth.wanted:
        return
    with _writing:
        entry = Entry()
        while library.la_log_entry(_written, entry) == 0:
            _written += 1
            truth.write(ACTIONS[entry.action], **_details(entry))


def _details(entry):
    if ACTIONS[entry.action] in ("bulk", "closed"):
        return {"mesh": entry.device_id}
    return {
        "uid": entry.unique_id,
        "address": entry.address,
        "size": entry.size,
        "type": entry.buffer_type,
        "status": entry.status,
        "owns": bool(entry.owns),
        "hooked": bool(entry.hooked),
    }


atexit.register(write_truth)


class Native:
    """Holds one native object and gives it up when the Python object dies."""

    _drop = None

    def __init__(self, handle):
        write_truth()
        if not handle:
            self._handle = None
            raise RuntimeError(library.la_last_error().decode())
        self._handle = handle

    def __del__(self):
        self.drop()

    def drop(self):
        """Gives the native object up now."""
        handle, self._handle = getattr(self, "_handle", None), None
        if handle:
            getattr(library, self._drop)(handle)
            write_truth()

    def leak(self):
        """Forgets the native object without giving it up: it stays until the process ends."""
        self._handle = None

    def _call(self, name, *arguments):
        result = getattr(library, name)(self._handle, *arguments)
        write_truth()
        return result


class MeshDevice(Native):
    """Chips that allocate in lock step."""

    _drop = "la_mesh_drop"

    def __init__(self, chips=8, handle=None):
        super().__init__(handle or library.la_mesh_open(chips))

    @property
    def id(self):
        return self._call("la_mesh_id")

    def submesh(self, chips):
        return MeshDevice(handle=self._call("la_mesh_submesh", chips))

    def close(self):
        """Releases all memory. The object, and tensors on it, may live on."""
        self._call("la_mesh_close")

    def empty(self, size, page_size=2048, buffer_type=DRAM):
        """A tensor of `size` bytes on each chip; RuntimeError if there is no room."""
        return Tensor(self._call("la_tensor_create", buffer_type, size, page_size))

    def tensor_at(self, address, size, page_size=2048, buffer_type=DRAM):
        """A tensor over memory that is somebody else's."""
        return Tensor(self._call("la_tensor_at", buffer_type, size, page_size, address))

    def release_all(self):
        """Drops every block, as unloading a set of sub-devices does; the mesh stays open."""
        self._call("la_mesh_release_all")

    def cache_program(self, buffer):
        """The program cache holds a buffer from now on."""
        self._call("la_mesh_cache_program", buffer._handle)

    def disable_and_clear_program_cache(self):
        self._call("la_mesh_clear_program_cache")

    def release_address(self, address, buffer_type=DRAM):
        """Releases a block behind its owner's back."""
        self._call("la_mesh_release_address", buffer_type, address)


class Described(Native):
    """Something with an address."""

    _describe = None

    @property
    def entry(self):
        entry = Entry()
        self._call(self._describe, entry)
        return entry

    @property
    def unique_id(self):
        return self.entry.unique_id

    @property
    def address(self):
        return self.entry.address

    @property
    def status(self):
        return self.entry.status


class Tensor(Described):
    """A mesh buffer: an owner on the mesh and an alias for each chip."""

    _drop = "la_tensor_drop"
    _describe = "la_tensor_describe"

    def deallocate(self):
        self._call("la_tensor_deallocate")

    def share(self):
        """One more reference to the owning buffer."""
        return Buffer(self._call("la_buffer_share"))

    def view(self):
        """An alias over the second half."""
        return Buffer(self._call("la_buffer_view"))

    def adopt(self):
        """A second owner of the same block, as moving a tensor without copying it makes."""
        return Buffer(self._call("la_buffer_adopt"))


class Buffer(Described):
    """A reference to one buffer."""

    _drop = "la_buffer_drop"
    _describe = "la_buffer_describe"

    def deallocate(self):
        self._call("la_buffer_deallocate")


    def release(self):
        """Releases the block, whether the buffer owns it or not."""
        self._call("la_buffer_release")


class WeightCache(Native):
    """A cache that deallocates what it kept, whether or not somebody did before."""

    _drop = "la_cache_drop"

    def __init__(self):
        super().__init__(library.la_cache_new())

    def keep(self, tensor):
        self._call("la_cache_keep", tensor._handle)

    def clear(self):
        self._call("la_cache_clear")


class Program(Native):
    """A program, which keeps the buffers in its pool alive."""

    _drop = "la_program_drop"

    def __init__(self):
        super().__init__(library.la_program_new())

    def keep(self, tensor):
        self._call("la_program_keep", tensor._handle)

    def keep_buffer(self, buffer):
        self._call("la_program_keep_buffer", buffer._handle)

    def run(self, mesh):
        self._call("la_program_run", mesh._handle)


class Shelf(Native):
    """A container of references to buffers, which does nothing to them."""

    _drop = "la_shelf_drop"

    def __init__(self, kind):
        super().__init__(library.la_shelf_new(["vector", "map", "unordered_map", "deque"].index(kind)))

    def put(self, buffer):
        self._call("la_shelf_put", buffer._handle)

    def clear(self):
        self._call("la_shelf_clear")


def report_chips(allocations, frees):
    """What the buffers of chips report in the variants excess-reporting*; in others they never do."""
    library.la_report_chips(allocations, frees)


@contextlib.contextmanager
def no_dispatch():
    """A graph capture that only pretends to allocate."""
    if library.la_capture_begin() != 0:
        raise RuntimeError("a capture has begun already")
    try:
        yield
    finally:
        library.la_capture_end()
