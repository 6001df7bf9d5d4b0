# SPDX-License-Identifier: Apache-2.0
"""One test for each kind of buffer that an expectation is about. With LOOKALIKE_BROKEN, two of them free too often."""

import os

import lookalike

BROKEN = bool(os.environ.get("LOOKALIKE_BROKEN"))


def test_regular_buffer():
    mesh = lookalike.MeshDevice(chips=1)
    mesh.empty(4096).drop()
    mesh.close()


def test_mesh_buffer(mesh):
    tensor = mesh.empty(4096)
    tensor.deallocate()
    if BROKEN:
        tensor.deallocate()


def test_program_pool(mesh):
    program, tensor = lookalike.Program(), mesh.empty(4096)
    kept = tensor.share()
    program.keep(tensor)
    program.run(mesh)
    if BROKEN:
        # By hand, although the pool and the tensor give their references up as well.
        kept.deallocate()
        kept.deallocate()
    tensor.drop()
    kept.drop()
    program.drop()


def test_view(mesh):
    base = mesh.empty(8192)
    view = base.view()
    view.deallocate()
    view.drop()
    base.drop()
