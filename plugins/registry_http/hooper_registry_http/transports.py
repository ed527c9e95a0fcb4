"""Connections to registries, kept for a moment for the next conversation."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hooper_registry_http.config import HttpConfig

if TYPE_CHECKING:
    from hooper_registry_http.transport import Transport

IDLE_S = 15.0
"""How long what nobody uses is kept: pulls often come several in a row."""

Key = tuple[str, str, int | None, tuple[tuple[str, int], ...]]


@dataclass
class _Kept:
    transport: Transport
    users: int = 0
    timer: asyncio.TimerHandle | None = None


class Transports:
    """One `Transport` for all conversations with a registry that are alike, and no other certificates since."""

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._kept: dict[Key, _Kept] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def take(self, host: str, scheme: str, retries: int | None) -> Transport:
        """To be given back. InvalidArgument for a proxy or a certificate that is no good."""
        from hooper_registry_http.transport import Transport

        key = host, scheme, retries, _stamp(host, self._config)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept(Transport(host, self._config, scheme=scheme, retries=retries))
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        kept.users += 1
        return kept.transport

    def give_back(self, transport: Transport) -> None:
        """The conversation is over."""
        for key, kept in self._kept.items():
            if kept.transport is transport:
                kept.users -= 1
                if not kept.users:
                    kept.timer = asyncio.get_running_loop().call_later(IDLE_S, self._expire, key)
                return

    def _expire(self, key: Key) -> None:
        task = asyncio.get_running_loop().create_task(self._kept.pop(key).transport.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Closes all; conversations that are under way end with errors."""
        for kept in self._kept.values():
            if kept.timer is not None:
                kept.timer.cancel()
            await kept.transport.aclose()
        self._kept.clear()


def _stamp(host: str, config: HttpConfig) -> tuple[tuple[str, int], ...]:
    """Changes with the certificates that are meant for the registry."""
    from hooper_registry_http.tls import files_of
    from hooper_registry_http.transport import names_of

    return tuple((str(path), _changed(path)) for path in files_of(names_of(host), config))


def _changed(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
