"""Removal of directories that are the engine's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def remove(directory: Path) -> None:
    """As `shutil.rmtree` that ignores errors, in a third of the time where there are but files and empty directories.

    It goes by paths: only for a directory that no container can write to.
    """
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                (os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)
        os.rmdir(directory)
    except OSError:  # also of what somebody else has removed meanwhile
        shutil.rmtree(directory, ignore_errors=True)
