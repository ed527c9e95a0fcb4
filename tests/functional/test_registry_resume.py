"""A pull that a daemon's end broke off goes on with the next daemon."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from stalling_registry import stalling_registry

import support

pytestmark = pytest.mark.root


def layer(size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = size
        archive.addfile(entry, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


def test_the_next_daemon_goes_on_where_the_last_was_killed(short_tmp: Path) -> None:
    size = 8 << 20
    with stalling_registry(layer(size)) as registry, support.hooper(short_tmp / "resumed") as engine:
        partial = engine.data_root / "content" / "ingest"
        client = subprocess.Popen(
            ["docker", "-H", engine.address, "pull", registry.image],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert registry.stalled.wait(30)
        support.until(lambda: any(file.stat().st_size > 1 << 20 for file in partial.iterdir()), what="half a layer")
        engine.kill()
        client.wait(30)
        registry.go.set()
        engine.start()
        engine.docker("pull", "-q", registry.image)
        assert registry.starts[0] == 0 and 1 << 20 < registry.starts[-1] <= size
        assert list(partial.iterdir()) == []
        assert engine.docker("images", "-q", registry.image).stdout
