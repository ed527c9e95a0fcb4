"""The launcher of the functional tests of the runtime; what it needs is beside those tests."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hooper.runtime.client import Launcher


@pytest.fixture(params=["FakeBackend", "FakeWithin", "FakeAttempt"])
async def launcher(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Launcher]:
    """With a backend that makes containers, one whose containers make themselves, and one with a quick way to that."""
    from runtime_support import HERE, make_launcher

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    launcher = make_launcher(tmp_path, request.param)
    await launcher.start()
    yield launcher
    await launcher.aclose()
