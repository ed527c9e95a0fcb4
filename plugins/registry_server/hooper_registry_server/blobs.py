"""Where blobs are: files of a directory, or the engine's own content."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from hooper.api.content import Content
from hooper.api.errors import NotFound
from hooper_registry_server.catalogue import Catalogue

OWNER = "registry-server"
"""Under this name the engine keeps blobs for the registry."""

_ALL = "SELECT digest FROM blobs"
_KNOWN = "SELECT 1 FROM blobs WHERE digest=?"


class Blobs(ABC):
    """Files by digest. A file and its record in the catalogue come and go together."""

    @abstractmethod
    def open(self, digest: str) -> int | None:
        """A descriptor to read; the caller closes it. None if there is no such file."""

    @abstractmethod
    async def add(self, file: Path, digest: str, record: Callable[[], None]) -> None:
        """Takes a complete and verified file over, and calls `record`. The file is gone then in any case."""

    @abstractmethod
    async def link(self, digest: str, record: Callable[[], bool]) -> bool:
        """Calls `record` for a file that is there already; False if it is not, or `record` says so."""

    @abstractmethod
    async def remove(self, digest: str, forget: Callable[[], bool]) -> bool:
        """Calls `forget`, which tells whether the catalogue has let go of the blob, and deletes the file if so."""

    @abstractmethod
    async def sweep(self) -> None:
        """Removes what a server that was killed has left: files that the catalogue does not know."""


class DirectoryBlobs(Blobs):
    """<directory>/blobs/<algorithm>/<first two digits>/<hex>. The catalogue's lock orders all processes."""

    def __init__(self, directory: Path, catalogue: Catalogue) -> None:
        self._directory, self._catalogue = directory / "blobs", catalogue

    def path(self, digest: str) -> Path:
        algorithm, _, encoded = digest.partition(":")
        return self._directory / algorithm / encoded[:2] / encoded

    def open(self, digest: str) -> int | None:
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    async def add(self, file: Path, digest: str, record: Callable[[], None]) -> None:
        await anyio.to_thread.run_sync(self._add, file, digest, record)

    def _add(self, file: Path, digest: str, record: Callable[[], None]) -> None:
        target = self.path(digest)
        sync(file)
        if not target.parent.exists():
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync(target.parent.parent)
        with self._catalogue.transaction():
            if target.exists():
                file.unlink()
            else:
                file.rename(target)
                sync(target.parent)
            record()

    async def link(self, digest: str, record: Callable[[], bool]) -> bool:
        return await anyio.to_thread.run_sync(self._link, digest, record)

    def _link(self, digest: str, record: Callable[[], bool]) -> bool:
        with self._catalogue.transaction():
            return self.path(digest).exists() and record()

    async def remove(self, digest: str, forget: Callable[[], bool]) -> bool:
        return await anyio.to_thread.run_sync(self._remove, digest, forget)

    def _remove(self, digest: str, forget: Callable[[], bool]) -> bool:
        with self._catalogue.transaction():
            if not forget():
                return False
            self.path(digest).unlink(missing_ok=True)
            return True

    async def sweep(self) -> None:
        await anyio.to_thread.run_sync(self._sweep)

    def _sweep(self) -> None:
        known = {row[0] for row in self._catalogue.current(_ALL)}
        for file in self._directory.glob("*/*/*"):
            digest = f"{file.parts[-3]}:{file.name}"
            if digest in known:
                continue
            with self._catalogue.transaction():
                # It may have come since.
                if not self._catalogue.current(_KNOWN, digest):
                    file.unlink(missing_ok=True)


class EngineBlobs(Blobs):
    """The engine's content, which has sha256 alone; other algorithms are in a directory."""

    def __init__(self, content: Content, others: DirectoryBlobs, catalogue: Catalogue) -> None:
        self._content, self._others, self._catalogue = content, others, catalogue
        self._lock = anyio.Lock()

    @staticmethod
    def _is_engines(digest: str) -> bool:
        return digest.startswith("sha256:")

    def open(self, digest: str) -> int | None:
        if not self._is_engines(digest):
            return self._others.open(digest)
        try:
            return self._content.open(digest)
        except NotFound:
            return None

    async def add(self, file: Path, digest: str, record: Callable[[], None]) -> None:
        if not self._is_engines(digest):
            return await self._others.add(file, digest, record)
        async with self._lock:
            await self._content.add(file, digest, OWNER)
            await anyio.to_thread.run_sync(record)
        return None

    async def link(self, digest: str, record: Callable[[], bool]) -> bool:
        if not self._is_engines(digest):
            return await self._others.link(digest, record)
        async with self._lock:
            try:
                self._content.keep(digest, OWNER)
            except NotFound:
                return False
            return await anyio.to_thread.run_sync(record)

    async def remove(self, digest: str, forget: Callable[[], bool]) -> bool:
        if not self._is_engines(digest):
            return await self._others.remove(digest, forget)
        async with self._lock:
            forgotten = await anyio.to_thread.run_sync(forget)
            if forgotten:
                self._content.release(digest, OWNER)
            return forgotten

    async def sweep(self) -> None:
        await self._others.sweep()
        async with self._lock:
            rows = await anyio.to_thread.run_sync(self._catalogue.current, _ALL)
            for digest in {*self._content.kept(OWNER)} - {row[0] for row in rows}:
                self._content.release(digest, OWNER)


def sync(path: Path) -> None:
    """Makes a file, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
