# SPDX-License-Identifier: Apache-2.0
"""What ttnn itself says of the memory of a device, written to the truth file as what a tracer has to find.

Actions: `given` (a buffer got memory) and `fate` (what a free was, or what became of a buffer, in tt-buftrace's words),
each with address and type, and `held` (who held what when a request failed). ttnn lists the buffers that its allocator
has; what a step adds to the list was given, what it takes away was released.
"""

import contextlib

import attach
import pytest
import ttnn

graph = ttnn._ttnn.graph  # not ttnn.graph: from some version on it wants torch
truth = attach.Truth()


class Told:
    """An open device, whatever its number of chips, with steps before and after which ttnn is asked."""

    def __init__(self, device, close):
        self.device = device
        self._close = close
        self.is_open = True

    def live(self):
        """Address and type of each buffer that the allocator has."""
        listed = ttnn._ttnn.reports.get_buffers(self.device)
        buffers = {(buffer.address, buffer.buffer_type.value) for buffer in listed}
        assert len(buffers) == len(listed)
        return buffers

    @contextlib.contextmanager
    def step(self):
        """No address may be released and given again within one."""
        before = self.live()
        yield
        after = self.live()
        for address, buffer_type in sorted(before - after):
            truth.write("fate", verdict="released", address=address, type=buffer_type)
        for address, buffer_type in sorted(after - before):
            truth.write("given", address=address, type=buffer_type)

    @contextlib.contextmanager
    def refused(self, buffer_type):
        """In which a request for memory of a type fails at last."""
        with pytest.raises(RuntimeError, match="Out of Memory"):
            yield
        truth.write("fate", verdict="failed", address=0, type=buffer_type.value)

    def outlive(self, tensor):
        """A tensor that is about to be freed although its device is closed."""
        assert not self.is_open and tensor.is_allocated()
        gone = self.device is None
        memory = tensor.buffer_address(), tensor.memory_config().buffer_type.value
        truth.write("fate", verdict="device-gone" if gone else "after-close", address=memory[0], type=memory[1])

    def close(self, kept=()):
        """Closes the device, once, with these tensors alive. What else is live is the program cache's: it goes with the
        device's object, when no test runs."""
        if not self.is_open:
            return
        self.is_open = False
        kept = {(tensor.buffer_address(), tensor.memory_config().buffer_type.value) for tensor in kept}
        for address, buffer_type in sorted(self.live()):
            truth.write("fate", verdict="bulk", address=address, type=buffer_type)
            if (address, buffer_type) not in kept:
                truth.write("fate", verdict="marked", address=address, type=buffer_type, later=True)
        self._close(self.device)

    def drop(self):
        """Gives the device's object up."""
        self.device = None


def one_chip():
    return Told(ttnn.open_device(device_id=0), ttnn.close_device)


def all_chips():
    chips = ttnn.get_num_devices()
    return Told(ttnn.open_mesh_device(ttnn.MeshShape(*((2, 4) if chips == 8 else (1, chips)))), ttnn.close_mesh_device)


@contextlib.contextmanager
def capture(mode):
    """A graph capture. The list is what it says of buffers: `buffer_allocate` and `buffer_deallocate`."""
    said = []
    graph.begin_graph_capture(mode)
    try:
        yield said
    finally:
        nodes = [node["node_type"] for node in graph.end_graph_capture()]
        said += [node for node in nodes if node in ("buffer_allocate", "buffer_deallocate")]
