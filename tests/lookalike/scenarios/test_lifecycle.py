# SPDX-License-Identifier: Apache-2.0
"""One test for each verdict; its name is the verdict's."""

import os

import pytest

import lookalike


def test_released(mesh):
    tensor = mesh.empty(4096)
    tensor.drop()


def test_repeat(mesh):
    tensor = mesh.empty(4096)
    tensor.deallocate()
    tensor.deallocate()
    assert tensor.status == lookalike.DEALLOCATED


def test_alias_free(mesh):
    # Reported by the variant excess-reporting alone; of the others, the aliases say nothing.
    tensor = mesh.empty(4096)
    tensor.drop()


def test_stale_free(mesh):
    tensor = mesh.empty(4096)
    second_owner = tensor.adopt()
    tensor.drop()
    second_owner.drop()


def test_stolen_free(mesh):
    tensor = mesh.empty(4096)
    second_owner = tensor.adopt()
    tensor.drop()
    victim = mesh.empty(4096)
    assert victim.address == second_owner.address
    second_owner.drop()
    assert victim.status == lookalike.ALLOCATED
    # Its block is gone, and so the next tensor gets the same one.
    victim.leak()


def test_overlap(mesh):
    first = mesh.empty(4096)
    mesh.release_address(first.address)
    second = mesh.empty(4096)
    assert first.address == second.address
    first.leak()
    second.drop()


def test_after_close():
    mesh = lookalike.MeshDevice()
    tensor = mesh.empty(4096)
    mesh.close()
    tensor.drop()


def test_marked():
    mesh = lookalike.MeshDevice()
    tensor = mesh.empty(4096)
    mesh.drop()
    tensor.drop()


def test_bulk():
    mesh = lookalike.MeshDevice()
    mesh.empty(4096).leak()
    mesh.close()


def test_bulk_in_an_open_mesh(mesh):
    mesh.empty(4096).leak()
    mesh.release_all()


def test_failed(mesh):
    held = [mesh.empty(1 << 30) for _ in range(3)]
    with pytest.raises(RuntimeError, match="Out of Memory: Not enough space to allocate 1073741824 B DRAM buffer"):
        held += [mesh.empty(1 << 30) for _ in range(2)]


def test_phantom(mesh):
    with lookalike.no_dispatch():
        hooked = mesh.empty(4096)
        assert hooked.entry.hooked == 1
        hooked.drop()
    empty = mesh.empty(0)
    assert empty.status == lookalike.ALLOCATED
    empty.drop()


def test_pre_attach(early_tensors):
    early_tensors[0].drop()


def test_inherited(mesh):
    tensor = mesh.empty(4096)
    child = os.fork()
    if child == 0:
        tensor.drop()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert tensor.status == lookalike.ALLOCATED
    tensor.drop()


def test_held():
    mesh = lookalike.MeshDevice()
    mesh.empty(4096).leak()
    # Neither closed nor destroyed: live until the process ends.
    mesh.leak()
