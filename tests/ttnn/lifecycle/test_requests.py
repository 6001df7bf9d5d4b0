# SPDX-License-Identifier: Apache-2.0
"""Requests that fail, and allocations that a graph capture sees or only pretends."""

import itertools
import math

import pytest
import told
import ttnn
from test_tensors import tiles

BYTES = 2  # of a bfloat16


def first_layer(device, place, shape):
    return ttnn.empty(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, device.device, place)


def second_layer(device, place, shape):
    return ttnn.empty(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, device.device, place)


@pytest.mark.parametrize("too_much", ["DRAM", "L1"])
def test_out_of_memory(device, too_much):
    with device.step():
        tensor = tiles(device)
    place = getattr(ttnn, f"{too_much}_MEMORY_CONFIG")
    with device.refused(place.buffer_type):
        first_layer(device, place, (1, 1, 1 << 19, 1 << 17))
    with device.step():
        del tensor


@pytest.mark.parametrize("filled, rows", [("DRAM", 1 << 18), ("L1", 1 << 10)])
def test_until_out_of_memory(device, filled, rows):
    place, shape = getattr(ttnn, f"{filled}_MEMORY_CONFIG"), (1, 1, rows, 1 << 13)
    held = {first_layer: [], second_layer: []}
    with device.refused(place.buffer_type):
        for layer in itertools.cycle([first_layer, second_layer, second_layer]):
            with device.step():
                held[layer].append(layer(device, place, shape))
    size = math.prod(shape) * BYTES
    for layer, tensors in held.items():
        told.truth.write("held", by=layer.__name__, buffers=len(tensors), bytes=len(tensors) * size)
    with device.step():
        held.clear()
        del tensors


def test_real_capture(device):
    with told.capture(told.graph.RunMode.NORMAL) as said:
        with device.step():
            tensor = tiles(device)
        with device.step():
            result = ttnn.add(tensor, tensor)
        with device.step():
            ttnn.deallocate(tensor)
        with device.step():
            del result
    assert sorted(said) == ["buffer_allocate"] * 2 + ["buffer_deallocate"] * 2


def test_pretended_capture(device):
    with device.step():
        tensor = tiles(device)
    with told.capture(told.graph.RunMode.NO_DISPATCH) as said:
        with device.step():
            phantom = tiles(device)
            assert phantom.buffer_address() == 0
            told.truth.write("given", address=0, type=ttnn.BufferType.DRAM.value)
            told.truth.write("fate", verdict="phantom", address=0, type=ttnn.BufferType.DRAM.value)
            del phantom
    assert said == ["buffer_allocate", "buffer_deallocate"]
    with device.step():
        del tensor
