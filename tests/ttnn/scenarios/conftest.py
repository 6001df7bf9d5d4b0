# SPDX-License-Identifier: Apache-2.0
"""Opens a mesh of eight mock chips and allocates some tensors there before a tracer attaches."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
# attach.py is the look-alike's: both targets are started and traced in the same way.
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "lookalike")]

import attach  # noqa: E402
import tensors  # noqa: E402

EARLY_MESH = tensors.Mesh()
EARLY_TENSORS = [
    EARLY_MESH.empty((1, 1, 32, 64)),
    EARLY_MESH.empty((1, 1, 64, 64), l1=True),
    EARLY_MESH.empty((1, 1, 32, 32)),
]


def pytest_sessionstart(session):
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        attach.wait_for_tracer()


@pytest.fixture
def early_mesh():
    """The mesh that was open before the tracer came."""
    return EARLY_MESH


@pytest.fixture
def early_tensors():
    return EARLY_TENSORS


@pytest.fixture
def mesh():
    """A mesh of its own for each test: chips can be in one open mesh only, so the early one is closed first."""
    EARLY_MESH.close()
    mesh = tensors.Mesh()
    yield mesh
    mesh.close()
