# SPDX-License-Identifier: Apache-2.0
"""Allocates what is there before a tracer attaches, lets one attach, and opens a mesh for each test that asks for one."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import attach  # noqa: E402
import lookalike  # noqa: E402

EARLY_MESH = lookalike.MeshDevice(chips=2)
EARLY_TENSORS = [EARLY_MESH.empty(8192), EARLY_MESH.empty(4096, buffer_type=lookalike.L1)]


def pytest_sessionstart(session):
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        attach.wait_for_tracer()


def pytest_unconfigure():
    # The interpreter's own order of destruction is no part of any scenario: what is early and alive stays so.
    for early in [*EARLY_TENSORS, EARLY_MESH]:
        early.leak()


@pytest.fixture
def early_tensors():
    """Tensors from before the tracer, in the order of their allocation."""
    return EARLY_TENSORS


@pytest.fixture
def mesh():
    """Eight chips, closed after the test."""
    mesh = lookalike.MeshDevice(chips=8)
    yield mesh
    mesh.close()
