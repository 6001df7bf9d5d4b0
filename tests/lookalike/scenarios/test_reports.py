# SPDX-License-Identifier: Apache-2.0
"""What a tensor on eight chips reports to the graph tracker, by what the chips' buffers report besides the mesh's own:
the names say how many allocations and frees, in the variants excess-reporting*.
"""

import lookalike


def test_9_and_9(mesh):
    lookalike.report_chips(allocations=True, frees=True)
    mesh.empty(4096).drop()


def test_9_and_8():
    # A device that is closed takes the mesh's buffer along without a word, and the chips' report all the same.
    lookalike.report_chips(allocations=True, frees=True)
    mesh = lookalike.MeshDevice(chips=8)
    tensor = mesh.empty(4096)
    mesh.close()
    tensor.drop()


def test_9_and_1(mesh):
    lookalike.report_chips(allocations=True, frees=False)
    mesh.empty(4096).drop()


def test_1_and_9(mesh):
    lookalike.report_chips(allocations=False, frees=True)
    mesh.empty(4096).drop()
