# SPDX-License-Identifier: Apache-2.0
"""Frees that come too late, and why: each test's name begins with the cause.

A reshape that moves data leaves a constant tensor in the program cache.
"""

import pytest

import ttnn


def fill_program_cache(mesh):
    mesh.device.enable_program_cache()
    tensor = mesh.empty((1, 1, 32, 32))
    ttnn.reshape(tensor.tensor, (1, 1, 16, 64))
    tensor.drop()


def test_none_if_the_cache_is_cleared_first(mesh):
    fill_program_cache(mesh)
    mesh.device.disable_and_clear_program_cache()


def test_program_cache_is_cleared_after_close(mesh):
    fill_program_cache(mesh)
    mesh.close()
    mesh.device.disable_and_clear_program_cache()


def test_program_cache_goes_with_its_device(mesh):
    fill_program_cache(mesh)
    mesh.close()
    mesh.drop()


@pytest.mark.xfail(strict=True, reason="a test that fails keeps its locals, and so its tensors")
def test_outlived_device(mesh):
    # Not one of tensors.py, which have destructors in Python: pytest itself is to let go of it.
    tensor = ttnn.empty((1, 1, 64, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh.device, ttnn.DRAM_MEMORY_CONFIG)
    assert tensor is None


def test_none_after_one_that_failed(mesh):
    mesh.empty((1, 1, 64, 32)).drop()
