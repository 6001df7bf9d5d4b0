# SPDX-License-Identifier: Apache-2.0
"""A test that needs no device, so that it can be run by users who may use none."""


def test_host():
    pass
