# SPDX-License-Identifier: Apache-2.0
"""tt-buftrace for Python: the program of this installation, and a plugin for pytest."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

PROGRAM = "tt-buftrace"


def program() -> Path | None:
    """The program that was installed with this package, else the one on PATH."""
    try:
        files = importlib.metadata.files(PROGRAM) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate())).resolve()
        if path.name == PROGRAM and path.is_file():
            return path
    found = shutil.which(PROGRAM)
    return Path(found) if found else None
