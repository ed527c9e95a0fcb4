"""A host that serves no registry pays nothing for it."""

from __future__ import annotations

import subprocess
import sys

_LOADED = """
import asyncio, sys
from hooper.api.specs import Kind
from hooper.config import load
from hooper.daemon.main import _enabled
from hooper.plugins.manager import load_plugins
from hooper.plugins.selection import Selector, imported

config = load(environment={"HOOPER_FRONTEND_ENABLED": sys.argv[1]})
selector = Selector(load_plugins(), config, lambda kind, spec, settings: imported(spec.factory), None)
asyncio.run(_enabled(config, selector, Kind.FRONTEND))
print(*sorted(name for name in sys.modules if name.startswith("hooper_registry_server.")))
"""


def _loaded(enabled: str) -> list[str]:
    command = [sys.executable, "-c", _LOADED, enabled]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()


def test_only_its_hook_is_imported_unless_it_is_named() -> None:
    assert _loaded("auto") == ["hooper_registry_server.plugin"]
    assert "hooper_registry_server.frontend" in _loaded("auto,registry")
