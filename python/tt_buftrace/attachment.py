# SPDX-License-Identifier: Apache-2.0
"""Holds a process back, once it has loaded TT-Metal, until the recorder has attached to it: else its first allocations
would not be seen."""

from __future__ import annotations

import importlib.abc
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from .recorder import Log

LIBRARY = "libtt_metal.so"


class Attachment:
    """Waits after the import that loads the library, or at the next look at the latest."""

    def __init__(self, log: Log, is_loaded: Callable[[], bool] | None = None) -> None:
        self.problems: list[str] = []
        self._log = log
        self._is_loaded = is_loaded or library_is_loaded
        self._finder: AfterExtensions | None = AfterExtensions(self._wait_if_loaded)
        sys.meta_path.insert(0, self._finder)

    def look(self, since: str | None = None) -> None:
        """To be called between tests; `since` is what ran since the last look, if that may have allocated."""
        if self._wait_if_loaded() and since is not None:
            self.problems.append(
                f"{since} loaded TT-Metal other than by importing it: what it allocated before the recorder attached "
                f"to process {os.getpid()} is not in the trace"
            )

    def close(self) -> None:
        if self._finder is not None and self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._finder = None

    def _wait_if_loaded(self) -> bool:
        """Whether the library is there for the first time."""
        if self._finder is None or not self._is_loaded():
            return False
        self.close()
        problem = self._log.wait_until_attached(os.getpid())
        if problem is not None:
            self.problems.append(f"process {os.getpid()} is not recorded from its beginning: {problem}")
        return True


def library_is_loaded() -> bool:
    """Whether this process has mapped the library."""
    return LIBRARY in Path("/proc/self/maps").read_text(errors="replace")


class AfterExtensions(importlib.abc.MetaPathFinder):
    """Finds extension modules as ever, and has something done after each was loaded."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or type(spec.loader) is not ExtensionFileLoader:
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path, self._then)
        return spec


class _Loader(ExtensionFileLoader):
    def __init__(self, name: str, path: str, then: Callable[[], object]) -> None:
        super().__init__(name, path)
        self._then = then

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        self._then()
