# SPDX-License-Identifier: Apache-2.0
"""Tensors that outlive their device, are on a part of it, or are another process's as well."""

import ctypes
import os
import signal
import threading

import told
import ttnn
from test_tensors import tiles


def test_close_with_live_tensors(device):
    with device.step():
        deallocated, dropped = tiles(device), tiles(device, memory_config=ttnn.L1_MEMORY_CONFIG)
    device.close(kept=[deallocated, dropped])
    device.outlive(deallocated)
    ttnn.deallocate(deallocated)
    device.outlive(dropped)
    del dropped


def test_device_object_goes_first(device):
    with device.step():
        tensor = tiles(device)
    device.close(kept=[tensor])
    device.drop()
    device.outlive(tensor)
    del tensor


def test_program_cache_of_a_closed_device(device):
    with device.step():
        tensor = tiles(device)
    with device.step():
        moved = ttnn.reshape(tensor, (1, 1, 32, 128))
    device.close(kept=[tensor, moved])
    for it in (tensor, moved):
        device.outlive(it)
    del it, tensor, moved


def test_submesh(mesh):
    part = told.Told(mesh.device.create_submesh(ttnn.MeshShape(2, 2)), ttnn.close_mesh_device)
    with mesh.step():
        whole = tiles(mesh)
    with part.step():
        half = tiles(part, 32, 64)
    with part.step():
        del half
    with mesh.step():
        ttnn.deallocate(whole)
    part.close()


def test_submeshes_with_tensors_at_one_address(mesh):
    parts = [
        told.Told(submesh, ttnn.close_mesh_device) for submesh in mesh.device.create_submeshes(ttnn.MeshShape(2, 2))
    ]
    tensors = []
    for part in parts:
        with part.step():
            tensors.append(tiles(part))
    assert len(parts) == 2 and len({tensor.buffer_address() for tensor in tensors}) == 1
    with parts[0].step():
        ttnn.deallocate(tensors[0])
    assert tensors[1].is_allocated()
    parts[1].close(kept=[tensors[1]])
    parts[1].outlive(tensors[1])
    del tensors
    parts[0].close()


def test_threads(device):
    made = [[] for _ in range(4)]

    def make(tensors):
        tensors += [tiles(device, 32, 32) for _ in range(10)]

    def free(tensors):
        while tensors:
            ttnn.deallocate(tensors.pop())

    for work in (make, free):
        with device.step():
            threads = [threading.Thread(target=work, args=[tensors]) for tensors in made]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def test_fork(device):
    with device.step():
        tensor, other = tiles(device), tiles(device)
    child = os.fork()
    if child == 0:
        # What it inherited is freed here by hand, by Python, and by the destructors that run when the process ends. These
        # wait for the parent's threads, or crash: so the child's end is not looked at.
        signal.alarm(2)
        ttnn.deallocate(tensor)
        del other
        ctypes.CDLL(None).exit(0)
    os.waitpid(child, 0)
    assert tensor.is_allocated() and other.is_allocated()
    with device.step():
        del tensor, other
