# SPDX-License-Identifier: Apache-2.0
"""Ordinary work, in which nothing is wrong: each buffer is released once, while its mesh is open."""

import threading

import lookalike


def run_layer(mesh, weights):
    activations = mesh.empty(65536, buffer_type=lookalike.L1)
    assert activations.address != weights.address
    return activations


def test_layers(mesh):
    weights = [mesh.empty(1 << 20) for _ in range(4)]
    for layer in weights:
        run_layer(mesh, layer)


def test_address_is_reused(mesh):
    addresses = set()
    for _ in range(100):
        addresses.add(mesh.empty(4096).address)
    assert len(addresses) == 1


def test_view_owns_nothing(mesh):
    tensor = mesh.empty(8192)
    view = tensor.view()
    assert view.address == tensor.address
    view.deallocate()
    assert tensor.status == lookalike.ALLOCATED


def test_tensor_over_memory_of_another(mesh):
    tensor = mesh.empty(8192)
    alias = mesh.tensor_at(tensor.address, 8192)
    alias.drop()
    assert tensor.status == lookalike.ALLOCATED


def test_program_keeps_its_buffers(mesh):
    program = lookalike.Program()
    tensor = mesh.empty(4096)
    kept = tensor.share()
    program.keep(tensor)
    program.run(mesh)
    tensor.drop()
    assert kept.status == lookalike.ALLOCATED
    kept.drop()
    program.drop()


def test_submesh_has_its_own_memory(mesh):
    submesh = mesh.submesh(4)
    ours, theirs = mesh.empty(4096), submesh.empty(4096)
    assert ours.address == theirs.address
    assert submesh.id != mesh.id
    theirs.drop()
    submesh.close()


def test_threads(mesh):
    def allocate():
        for _ in range(50):
            mesh.empty(4096).drop()

    threads = [threading.Thread(target=allocate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
