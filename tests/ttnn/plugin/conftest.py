# SPDX-License-Identifier: Apache-2.0
"""Sessions that record themselves. ttnn is imported by the first fixture that needs it, and allocates right after."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "lookalike")]


@pytest.fixture
def mesh():
    """Eight chips, closed after the test."""
    import tensors

    mesh = tensors.Mesh()
    yield mesh
    mesh.close()
