# SPDX-License-Identifier: Apache-2.0
"""A device for each test, as models' own tests have it: opened and closed around the test, with a program cache."""

import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
# attach.py is the look-alike's: both targets are started and traced in the same way.
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "lookalike")]

import attach  # noqa: E402
import told  # noqa: E402
import ttnn  # noqa: E402


def pytest_sessionstart(session):
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        attach.wait_for_tracer()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call():
    """With BUFTRACE_CAPTURE, ttnn's own graph capture counts what each test allocates and frees, for the truth file."""
    if not os.environ.get("BUFTRACE_CAPTURE"):
        return (yield)
    with told.capture(told.graph.RunMode.NORMAL) as said:
        result = yield
    told.truth.write("captured", **{name: said.count(f"buffer_{name}") for name in ("allocate", "deallocate")})
    return result


@pytest.fixture
def device():
    """One chip."""
    device = ttnn.open_device(device_id=0)
    yield device
    ttnn.close_device(device)


@pytest.fixture
def mesh_device():
    """All chips: one, or eight as 2 by 4."""
    shape = (2, 4) if ttnn.get_num_devices() == 8 else (1, ttnn.get_num_devices())
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(*shape))
    yield mesh
    ttnn.close_mesh_device(mesh)
