"""What need not be waited for: deleting files and writing committed data to the disk."""

from __future__ import annotations

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hooper.api.errors import Conflict
from hooper.api.snapshots import Record, SnapshotTable
from hooper.api.storage import SnapshotKind

_SYNC_DELAY = 2.0
"""Seconds in which commits gather for one flush."""


def _boot() -> int:
    """A number of this boot of the host."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text()
    return int(text.replace("-", "")[:12], 16)
