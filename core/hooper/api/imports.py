"""Importing a library without the optional parts that it would pull in."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def import_without(name: str, *unwanted: str) -> ModuleType:
    """The module `name`, imported as if the packages `unwanted` were not installed.

    For libraries that import a command line or pretty tracebacks of their own wherever those can be found: in a
    daemon that is megabytes for nothing. Has no effect on what is imported already.
    """
    hidden = [package for package in unwanted if package not in sys.modules]
    for package in hidden:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        for package in hidden:
            del sys.modules[package]
