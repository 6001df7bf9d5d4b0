# SPDX-License-Identifier: Apache-2.0
"""Meshes that are opened and closed within a test: ids go on, addresses begin again."""

import tensors

HELD = []


def test_released_before_close(mesh):
    mesh.empty((1, 1, 32, 32))


def test_first_address_again(mesh):
    mesh.empty((1, 1, 32, 32))


def test_free_after_close(mesh):
    dropped, deallocated = mesh.empty((1, 1, 32, 32)), mesh.empty((1, 1, 32, 32), l1=True)
    mesh.close()
    deallocated.deallocate()
    dropped.drop()


def test_mesh_object_dropped_first(mesh):
    tensor = mesh.empty((1, 1, 32, 32))
    mesh.close()
    mesh.drop()
    tensor.drop()


def test_submesh(mesh):
    submesh = mesh.submesh()
    whole, part = mesh.empty((1, 1, 32, 32)), submesh.empty((1, 1, 32, 64))
    part.drop()
    whole.drop()
    submesh.close()


def test_phantom(mesh):
    with mesh.capture():
        tensor = mesh.empty((1, 1, 32, 32))
        assert tensor.details["address"] == 0
        tensor.drop()


def test_exit_with_live_tensors():
    # The interpreter destroys what is global before the process ends; what is leaked, it does not.
    mesh = tensors.Mesh()
    HELD.extend([mesh, mesh.empty((1, 1, 96, 96))])
    mesh.empty((1, 1, 64, 96)).leak()
