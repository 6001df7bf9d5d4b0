# SPDX-License-Identifier: Apache-2.0
"""As many tests as give each of four workers some; two of them leave something to find."""

import pytest


@pytest.mark.parametrize("count", range(1, 9))
def test_freed(mesh, count):
    for _ in range(count):
        mesh.empty((1, 1, 32, 32)).drop()


def test_freed_after_close(mesh):
    tensor = mesh.empty((1, 1, 64, 32))
    mesh.close()
    tensor.drop()


def test_held(mesh):
    # Nobody closes its mesh, which would release it.
    mesh.empty((1, 1, 96, 96)).leak()
    mesh.close = lambda: None
    test_held.mesh = mesh
