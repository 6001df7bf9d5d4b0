# SPDX-License-Identifier: Apache-2.0
"""On the mesh that was open before the tracer came. The last test closes it, with a tensor still alive."""

import pytest

import tensors
import ttnn


def test_free_what_was_before(early_tensors):
    early_tensors[0].drop()
    early_tensors[1].deallocate()


def test_dram(early_mesh):
    early_mesh.empty((1, 1, 128, 128))


def test_l1(early_mesh):
    early_mesh.empty((1, 1, 64, 64), l1=True)


def test_sharded(early_mesh):
    early_mesh.sharded((1, 1, 128, 64), cores=4)


def test_deallocate_twice(early_mesh):
    tensor = early_mesh.empty((1, 1, 32, 32))
    tensor.deallocate()
    tensor.deallocate()
    assert not tensor.tensor.is_allocated()


def test_view_shares_memory(early_mesh):
    tensor = early_mesh.empty((1, 1, 64, 32))
    view = ttnn.reshape(tensor.tensor, (1, 2, 32, 32))
    assert view.buffer_address() == tensor.details["address"]
    del view
    tensor.drop()


def test_operation(early_mesh):
    left, right = early_mesh.empty((1, 1, 32, 32)), early_mesh.empty((1, 1, 32, 32))
    tensors.add(left, right)


def test_address_is_reused(early_mesh):
    addresses = {early_mesh.empty((1, 1, 32, 32)).details["address"] for _ in range(20)}
    assert len(addresses) == 1


def test_out_of_memory(early_mesh):
    with pytest.raises(RuntimeError, match="Out of Memory"):
        early_mesh.empty((1, 1, 1 << 19, 1 << 17))


def test_out_of_l1(early_mesh):
    with pytest.raises(RuntimeError, match="Out of Memory"):
        early_mesh.empty((1, 1, 1 << 14, 1 << 14), l1=True)


def test_close_with_live_tensor(early_mesh, early_tensors):
    early_mesh.close()
    early_tensors[2].drop()
