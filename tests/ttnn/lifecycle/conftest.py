# SPDX-License-Identifier: Apache-2.0
"""A device for each test, of one chip and of all."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
# attach.py is the look-alike's: both targets are started and traced in the same way.
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "lookalike")]

import attach  # noqa: E402
import told  # noqa: E402


def pytest_sessionstart(session):
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        attach.wait_for_tracer()


@pytest.fixture(params=[told.one_chip, told.all_chips], ids=["chip", "mesh"])
def device(request):
    device = request.param()
    yield device
    device.close()


@pytest.fixture
def mesh():
    mesh = told.all_chips()
    yield mesh
    mesh.close()
