"""Makes a process of Python, and all that it starts, like one of Windows in what it lacks.

Put this folder in PYTHONPATH. Modules that the standard library itself needs on this system are
imported by it first; nobody else gets them.
"""

import asyncio  # noqa: F401  # all that the standard library has of the hidden ones
import importlib.abc
import importlib.machinery
import multiprocessing  # noqa: F401
import os
import runpy
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import uuid  # noqa: F401
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_names = runpy.run_path(str(Path(__file__).with_name("hidden.py")))
_modules = _names["HIDDEN"]


class _Hider(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] in _modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


for _name in [each for each in sys.modules if each.partition(".")[0] in _modules]:
    del sys.modules[_name]
sys.meta_path.insert(0, _Hider())
for _name in _names["FUNCTIONS"]:
    if hasattr(os, _name):
        delattr(os, _name)
