# SPDX-License-Identifier: Apache-2.0
"""Lets a tracer attach before the first mesh is opened."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "lookalike")]

import attach  # noqa: E402
import tensors  # noqa: E402


def pytest_sessionstart(session):
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        attach.wait_for_tracer()


@pytest.fixture
def mesh():
    """Eight chips, closed after the test."""
    mesh = tensors.Mesh()
    yield mesh
    mesh.close()
