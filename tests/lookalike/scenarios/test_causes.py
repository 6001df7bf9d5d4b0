# SPDX-License-Identifier: Apache-2.0
"""One test for each known cause of frees too many or too late; its name begins with the cause's. The one about meshes and
chips is in test_reports.py.

Where a buffer has a second owner, whoever frees first releases the block, and the other one frees what is free.
"""

import os

import pytest

import lookalike


def second_owner(mesh):
    """A buffer whose block its first owner has released already."""
    tensor = mesh.empty(4096)
    second = tensor.adopt()
    tensor.drop()
    return second


def test_program_cache(mesh):
    second = second_owner(mesh)
    mesh.cache_program(second)
    second.drop()
    mesh.disable_and_clear_program_cache()


def test_program_cache_after_close(mesh):
    tensor = mesh.empty(4096)
    kept = tensor.share()
    mesh.cache_program(kept)
    kept.drop()
    tensor.drop()
    mesh.close()
    mesh.disable_and_clear_program_cache()


def test_cache(mesh):
    cache = lookalike.WeightCache()
    tensor = mesh.empty(4096)
    cache.keep(tensor)
    tensor.deallocate()
    cache.clear()


def test_program_pool(mesh):
    second = second_owner(mesh)
    program = lookalike.Program()
    program.keep_buffer(second)
    second.drop()
    program.drop()


@pytest.mark.parametrize("end", ["clear", "drop"])
@pytest.mark.parametrize("kind", ["vector", "map", "unordered_map", "deque"])
def test_container(mesh, kind, end):
    second = second_owner(mesh)
    shelf = lookalike.Shelf(kind)
    shelf.put(second)
    second.drop()
    getattr(shelf, end)()


def test_view(mesh):
    tensor = mesh.empty(4096)
    view = tensor.view()
    view.release()
    view.drop()
    tensor.drop()


def test_graph_capture(mesh):
    with lookalike.no_dispatch():
        pretended = mesh.empty(4096)
        pretended.deallocate()
        pretended.deallocate()


def test_forked_child(mesh):
    # Seen only by a recorder that follows children.
    tensor = mesh.empty(4096)
    child = os.fork()
    if child == 0:
        tensor.deallocate()
        tensor.deallocate()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    tensor.drop()


@pytest.mark.xfail(strict=True, reason="a test that fails keeps its locals, and so its tensors")
def test_outlived_device(mesh):
    tensor = mesh.empty(4096)
    assert tensor.address == 0


def test_next_after_one_that_failed(mesh):
    mesh.empty(4096).drop()


def test_no_known_pattern(mesh):
    tensor = mesh.empty(4096)
    tensor.deallocate()
    tensor.deallocate()
