# SPDX-License-Identifier: Apache-2.0
"""Tensors that are made, freed, shared and worked with while their device is open."""

import ttnn


def tiles(device, rows=64, columns=64, memory_config=ttnn.DRAM_MEMORY_CONFIG):
    return ttnn.empty((1, 1, rows, columns), ttnn.bfloat16, ttnn.TILE_LAYOUT, device.device, memory_config)


def sharded():
    grid = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(3, 0))})
    spec = ttnn.ShardSpec(grid, [32, 64], ttnn.ShardOrientation.ROW_MAJOR)
    return ttnn.MemoryConfig(ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, spec)


def test_allocate(device):
    for place in (ttnn.DRAM_MEMORY_CONFIG, ttnn.L1_MEMORY_CONFIG, sharded()):
        with device.step():
            tensor = tiles(device, 128, 64, place)
        assert tensor.is_allocated()
        with device.step():
            del tensor


def test_from_host(device):
    with device.step():
        tensor = ttnn.zeros((1, 1, 64, 64), ttnn.bfloat16, ttnn.TILE_LAYOUT, device.device)
    host = tensor.cpu()
    with device.step():
        again = host.to(device.device)
    with device.step():
        del again, tensor


def test_deallocate_twice(device):
    with device.step():
        tensor = tiles(device)
    for _ in range(2):
        with device.step():
            ttnn.deallocate(tensor)
        assert not tensor.is_allocated()
    with device.step():
        del tensor


def test_reshape_shares_memory(device):
    with device.step():
        tensor = tiles(device)
    with device.step():
        view = ttnn.reshape(tensor, (1, 2, 32, 64))
    assert view.buffer_address() == tensor.buffer_address()
    with device.step():
        del view
    with device.step():
        del tensor


def test_view_outlives_its_base(device):
    with device.step():
        tensor = tiles(device)
    with device.step():
        view = ttnn.experimental.view(tensor, (1, 2, 32, 64))
    with device.step():
        del tensor
    with device.step():
        del view


def test_view_is_deallocated(device):
    with device.step():
        tensor = tiles(device)
        view = ttnn.reshape(tensor, (1, 2, 32, 64))
    for force in (False, True):
        with device.step():
            ttnn.deallocate(view, force=force)
    with device.step():
        del view
    with device.step():
        del tensor


def test_reshape_moves_data(device):
    with device.step():
        tensor = tiles(device)
    for _ in range(2):
        with device.step():
            moved = ttnn.reshape(tensor, (1, 1, 32, 128))
        with device.step():
            del moved
    with device.step():
        del tensor


def test_add(device):
    with device.step():
        left, right = tiles(device), tiles(device)
    for _ in range(2):
        with device.step():
            result = ttnn.add(left, right)
        with device.step():
            ttnn.deallocate(result)
    with device.step():
        del left, right, result


def test_to_memory_config(device):
    with device.step():
        tensor = tiles(device)
    with device.step():
        moved = ttnn.to_memory_config(tensor, ttnn.L1_MEMORY_CONFIG)
    with device.step():
        del tensor
    with device.step():
        del moved


def test_program_cache_is_cleared(device):
    with device.step():
        tensor = tiles(device)
    with device.step():
        moved = ttnn.reshape(tensor, (1, 1, 32, 128))
    with device.step():
        device.device.disable_and_clear_program_cache()
    with device.step():
        del moved, tensor
