"""A journald for tests."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import support

JOURNALD = Path("/lib/systemd/systemd-journald")


@contextlib.contextmanager
def journald() -> Iterator[tuple[str, str]]:
    """A journald in a mount namespace of its own; where its socket and its files are seen from here."""
    if not (JOURNALD.exists() and shutil.which("journalctl")):
        pytest.skip("there is no journald here")
    mounts = "; ".join(f"mkdir -p {path} && mount -t tmpfs tmpfs {path}" for path in ("/run/systemd", "/run/log"))
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-ec", f"mount --make-rprivate /; {mounts}; exec {JOURNALD}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        root = f"/proc/{process.pid}/root/run"
        support.until(Path(root, "systemd/journal/socket").exists, what="journald")
        support.until(lambda: list(Path(root, "log/journal").glob("*/*.journal")), what="the journal")
        yield f"{root}/systemd/journal/socket", f"{root}/log/journal"
    finally:
        process.terminate()
        process.wait()
