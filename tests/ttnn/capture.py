# SPDX-License-Identifier: Apache-2.0
"""Captures a graph, real and without dispatch, and writes it to the files that are given: capture.py REAL PRETENDED"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lookalike"))

import ttnn  # noqa: E402

import tensors  # noqa: E402

graph = ttnn._ttnn.graph  # not ttnn.graph: from some version on it wants torch
mesh = tensors.Mesh()
before = mesh.empty([1, 1, 32, 64])
tensors.truth.write("begin")
graph.begin_graph_capture(graph.RunMode.NORMAL)
first = mesh.empty([1, 1, 64, 64])
small = mesh.empty([1, 1, 32, 32], l1=True)
both = tensors.add(first, first)
first.deallocate()
again = mesh.empty([1, 1, 64, 64])
before.deallocate()
small.deallocate()
pathlib.Path(sys.argv[1]).write_text(json.dumps(graph.end_graph_capture()))
tensors.truth.write("end")
graph.begin_graph_capture(graph.RunMode.NO_DISPATCH)
mesh.is_captured = True
pretended = mesh.empty([1, 1, 64, 64])
pathlib.Path(sys.argv[2]).write_text(json.dumps(graph.end_graph_capture()))
mesh.close()
