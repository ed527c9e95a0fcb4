"""The build context: reading from it safely, what .dockerignore leaves of it, and what is in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import anyio

from hooper.api.builder import BuildServices, CopySource, SourceEntry
from hooper.api.errors import InvalidArgument
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.patterns import IgnoreFile

_LARGEST_TEXT = 16 << 20


class Context:
    """`directory` is private to the build, so that nothing in it changes under our hands."""

    def __init__(self, directory: Path | None, services: BuildServices) -> None:
        self.directory, self._services = directory, services
        self.ignored_by = ""
        """The file that the rules are from."""
        self._ignore = IgnoreFile("")
        self._entries: Sequence[SourceEntry] | None = None

    def read(self, name: str) -> str | None:
        """A text file; None if it does not exist. InvalidArgument for a link out of the context."""
        if self.directory is None:
            return None
        root = self.directory.resolve()
        path = Path(os.path.join(root, name.lstrip("/"))).resolve()
        if not path.is_relative_to(root):
            raise InvalidArgument(
                name, "forbidden path outside the build context", "Put the file into the context, not behind a link."
            )
        if not path.is_file():
            return None
        if path.stat().st_size > _LARGEST_TEXT:
            raise InvalidArgument(name, "it is larger than 16 MiB", "Is it the right file?")
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidArgument(name, f"it is not UTF-8 text: {error}", "Save it as UTF-8.") from error

    def read_ignore_file(self, dockerfile: str) -> None:
        """Takes the rules of DOCKERFILE.dockerignore, else of .dockerignore. InvalidArgument names a bad one."""
        for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
            text = self.read(name)
            if text is None:
                continue
            try:
                self._ignore = IgnoreFile(text, name)
            except Fault as fault:
                raise InvalidArgument(fault.why, remedy=fault.remedy) from fault
            self.ignored_by = name
            return

    def ignores(self, path: str) -> bool:
        return bool(path) and self._ignore.excludes(path)

    async def entries(self) -> Sequence[SourceEntry]:
        """Everything in it, listed and hashed once a build. What the rules leave out is removed before."""
        if self._entries is None:
            entries = await self._services.list_sources(CopySource(self.directory, "", ("",)))
            excluded = {entry.path for entry in entries if self.ignores(entry.path)}
            if excluded and self.directory is not None:
                gone = [entry for entry in entries if entry.path in excluded]
                await anyio.to_thread.run_sync(_remove, self.directory, gone)
                entries = [entry for entry in entries if entry.path not in excluded]
            self._entries = entries
        return self._entries


def _remove(directory: Path, entries: Sequence[SourceEntry]) -> None:
    """Children go before their parents; a directory that still holds an exception stays."""
    for entry in sorted(entries, key=lambda entry: entry.path, reverse=True):
        path = directory / entry.path
        if entry.kind != "directory":
            path.unlink()
            continue
        try:
            path.rmdir()
        except OSError:
            continue
