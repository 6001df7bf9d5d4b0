# SPDX-License-Identifier: Apache-2.0
"""ttnn's tensors and meshes, with each thing that a scenario does to them written to the truth file before it is done.

Actions: `allocated` (after the fact: only then are address and id known), `phantom` (the same under a graph capture that
allocates nothing), `failed`, `deallocate` and `drop` (with the id of the tensor's owning buffer), `close` and `drop-mesh`.
The id is null where a ttnn does not tell (0.66.0).
"""

import contextlib
import ctypes
import math

import attach
import ttnn

truth = attach.Truth()
BYTES = 2  # of a bfloat16


class Tensor:
    """A tensor that owns device memory, and what was known of it when it was made."""

    def __init__(self, tensor, buffer_type, action="allocated"):
        self.tensor = tensor
        identity = getattr(tensor, "buffer_unique_id", None)
        self.details = {
            "uid": identity() if identity else None,
            "address": tensor.buffer_address(),
            "size": math.prod(tensor.padded_shape) * BYTES,
            "type": buffer_type,
        }
        truth.write(action, **self.details)

    def deallocate(self):
        truth.write("deallocate", **self.details)
        ttnn.deallocate(self.tensor)

    def drop(self):
        truth.write("drop", **self.details)
        self.tensor = None

    def leak(self):
        """Lets it live until the process ends, past the interpreter's own end."""
        # One reference that is never given back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.tensor))
        self.tensor = None

    def __del__(self):
        if getattr(self, "tensor", None) is not None:
            self.drop()


class Mesh:
    """An open mesh: eight chips, where none is given."""

    def __init__(self, device=None):
        self.device = device or ttnn.open_mesh_device(ttnn.MeshShape(2, 4))
        self.is_open = True
        self.is_captured = False

    def submesh(self):
        """Four of the chips, with an allocator of their own."""
        return Mesh(self.device.create_submesh(ttnn.MeshShape(2, 2)))

    def empty(self, shape, l1=False):
        """An interleaved tensor of bfloat16."""
        return self._empty(shape, ttnn.L1_MEMORY_CONFIG if l1 else ttnn.DRAM_MEMORY_CONFIG, 1 if l1 else 0)

    def sharded(self, shape, cores):
        """A tensor in the L1 memory of a row of cores, an equal part of its rows in each."""
        grid = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(cores - 1, 0))})
        rows = math.prod(shape[:-1]) // cores
        spec = ttnn.ShardSpec(grid, [rows, shape[-1]], ttnn.ShardOrientation.ROW_MAJOR)
        config = ttnn.MemoryConfig(ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, spec)
        return self._empty(shape, config, 1)

    def _empty(self, shape, memory_config, buffer_type):
        try:
            tensor = ttnn.empty(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, self.device, memory_config)
        except RuntimeError as error:
            truth.write("failed", type=buffer_type, error=str(error))
            raise
        return Tensor(tensor, buffer_type, "phantom" if self.is_captured else "allocated")

    @contextlib.contextmanager
    def capture(self):
        """A graph capture that only pretends to allocate."""
        # Not ttnn.graph's own functions, which from some version on also record Python calls, and need torch for that.
        ttnn._ttnn.graph.begin_graph_capture(ttnn.graph.RunMode.NO_DISPATCH)
        self.is_captured = True
        try:
            yield
        finally:
            self.is_captured = False
            ttnn._ttnn.graph.end_graph_capture()

    def close(self):
        """Closes the mesh, once; the object lives on."""
        if self.is_open:
            self.is_open = False
            truth.write("close", mesh=self.device.id())
            ttnn.close_mesh_device(self.device)

    def drop(self):
        """Gives the mesh's object up."""
        truth.write("drop-mesh")
        self.device = None



def add(left, right):
    """A real operation, whose result is a new tensor in DRAM."""
    return Tensor(ttnn.add(left.tensor, right.tensor), 0)
