# SPDX-License-Identifier: Apache-2.0
"""Ordinary work with ttnn as it is: operations, layouts, memory configurations, tensors that go when nobody wants them."""

import pytest

import ttnn


@pytest.fixture(params=["device", "mesh_device"])
def any_device(request):
    return request.getfixturevalue(request.param)


def weights(device, rows=64, columns=64, **placed):
    return ttnn.full((1, 1, rows, columns), 0.5, ttnn.bfloat16, ttnn.TILE_LAYOUT, device, **placed)


class Layer:
    """Two matrices that live as long as the model, and activations that do not."""

    def __init__(self, device):
        self.up = weights(device, 64, 128)
        self.down = weights(device, 128, 64)

    def __call__(self, activations):
        hidden = ttnn.relu(ttnn.matmul(activations, self.up))
        return ttnn.add(ttnn.matmul(hidden, self.down), activations)


def test_model(any_device):
    layers = [Layer(any_device) for _ in range(3)]
    activations = weights(any_device)
    for layer in layers:
        activations = layer(activations)
    assert activations.is_allocated()


def test_model_twice_with_one_program_cache(any_device):
    layer = Layer(any_device)
    for _ in range(2):
        activations = weights(any_device)
        result = layer(activations)
        ttnn.deallocate(activations)
        assert result.is_allocated()


def test_memory_configurations(any_device):
    tensor = weights(any_device)
    in_l1 = ttnn.to_memory_config(tensor, ttnn.L1_MEMORY_CONFIG)
    back = ttnn.to_memory_config(in_l1, ttnn.DRAM_MEMORY_CONFIG)
    ttnn.deallocate(in_l1)
    assert back.is_allocated() and not in_l1.is_allocated()


def test_layouts(any_device):
    tiles = weights(any_device)
    rows = ttnn.to_layout(tiles, ttnn.ROW_MAJOR_LAYOUT)
    again = ttnn.to_layout(rows, ttnn.TILE_LAYOUT)
    assert again.layout == ttnn.TILE_LAYOUT


def test_shapes(any_device):
    tensor = weights(any_device)
    view = ttnn.reshape(tensor, (1, 2, 32, 64))
    assert view.buffer_address() == tensor.buffer_address()
    rows = ttnn.to_layout(tensor, ttnn.ROW_MAJOR_LAYOUT)
    moved = ttnn.reshape(rows, (1, 1, 32, 128))
    assert moved.shape[-1] == 128
    turned = ttnn.transpose(tensor, -2, -1)
    assert turned.is_allocated()


def test_host_and_back(any_device):
    tensor = weights(any_device)
    host = tensor.cpu()
    again = host.to(any_device)
    assert again.is_allocated()
    assert again.cpu().shape == tensor.shape


def test_deallocated_by_hand(any_device):
    tensors = [weights(any_device) for _ in range(4)]
    for tensor in tensors:
        ttnn.deallocate(tensor)
    assert not any(tensor.is_allocated() for tensor in tensors)
