"""Where the trees of builds come from: archives, sessions, URLs and repositories."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio

from hooper.api import context_sync
from hooper.api.build_graph import GitSource, HttpSource
from hooper.api.build_session import BuildSession, NoSession
from hooper.api.driver import Workers
from hooper.api.engine import BuildContext
from hooper.api.errors import InvalidArgument, Unavailable
from hooper.api.git_url import parse_git_url
from hooper.content.fetching import without_secrets
from hooper.engine.build_archives import ReceivedArchives
from hooper.engine.build_files import BuildFiles, SourceEntry, entries_of
from hooper.engine.build_kept import TREE, Aside, KeptTrees, temporary
from hooper.engine.build_sources import Tree

RECIPE = "Dockerfile"
"""The name of a file that is a context of its own."""


def context_limit(size: str) -> int:
    """From the setting builder.context_limit; 0 for any. InvalidArgument if it is no size."""
    from hooper.cli.units import parse_size

    try:
        return parse_size(size) if size else 0
    except ValueError as error:
        raise InvalidArgument(f'builder.context_limit = "{size}"', str(error), "Write it as 2GB.") from error


class Received(BuildContext):
    """A context that is here."""

    def __init__(
        self, directory: Path, tree: Tree, *, files: int = 0, size: int = 0, sent: int = 0, recipe_default: str = ""
    ) -> None:
        """`recipe_default`: the one file that it has, if that is the recipe."""
        self.directory, self.tree, self.recipe_default = directory, tree, recipe_default
        self.files, self.size, self.sent = files, size, sent


class Contexts:
    """One an engine. `directory` holds what is received; what outlives a build is in `kept`."""

    def __init__(self, workers: Workers, directory: Path, *, limit: int = 0) -> None:
        """`limit`: bytes that a context may have, 0 for any."""
        self._workers, self._directory, self._limit = workers, directory, limit
        self.files = BuildFiles(workers)
        self._archives = ReceivedArchives(directory, self.files)
        self._contexts = KeptTrees(directory / "contexts", "source.local", workers)
        self._downloads = KeptTrees(directory / "downloads", "source.http", workers)
        self._repositories = KeptTrees(directory / "git", "source.git.checkout", workers)
        self.kept: Sequence[KeptTrees] = (self._contexts, self._downloads, self._repositories)
        """For the bounds of the build cache (`build_cache_limits.Directories`)."""

    # --- contexts -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def of_archive(self, archive: int) -> AsyncIterator[Received]:
        """A tar, compressed or not. InvalidArgument, DataLoss for one that is none, or that ends too early."""
        async with (
            self._archives.unpacked(archive, self._limit) as (place, entries, sent),
            self._opened(place, "build context", entries) as tree,
        ):
            yield Received(place / TREE, tree, files=_count(entries), size=_size(entries), sent=sent)

    @asynccontextmanager
    async def of_session(self, session: BuildSession, name: str) -> AsyncIterator[Received]:
        """What the client has as that context. Only what is not here already is sent.

        NotFound if it has none; InvalidArgument for what it cannot read; Unavailable, DataLoss if it goes away.
        """
        with await session.open("context", name) as stream:
            identity, shown = await _hello(stream)
            key = hashlib.sha256(f"{identity}\0{name}".encode("utf-8", "surrogateescape")).hexdigest()
            async with self._contexts.use(key, shown or "build context", alone=True) as place:
                arguments = {"root": str(place), "limit": self._limit}
                found = await self._workers.run(
                    "hooper.content.context_store:receive", arguments, (stream.fileno(),)
                )  # fmt: skip
                stream.close()
                entries = entries_of(found["rows"])
                async with self._opened(place, f"context {name}" if name else "build context", entries) as tree:
                    yield Received(
                        place / TREE, tree, files=_count(entries), size=found["size"], sent=found["sent"]
                    )  # fmt: skip

    @asynccontextmanager
    async def of_url(self, url: str) -> AsyncIterator[Received]:
        """A repository, a tar, or a file that is the recipe. InvalidArgument, NotFound, Unavailable."""
        git = parse_git_url(url, loose=True)
        if git is not None:
            source = GitSource(
                remote=git.remote,
                ref=git.ref,
                subdirectory=git.subdirectory,
                checksum=git.checksum,
                keep_git_dir=bool(git.keep_git_dir),
                submodules=git.submodules,
            )
            async with (
                self._checkout(source, NoSession(), alone=True) as (place, entries),
                self._opened(place, "build context", entries) as tree,
            ):
                yield Received(place / TREE, tree, files=_count(entries), size=_size(entries))
            return
        if not url.startswith(("http://", "https://")):
            raise InvalidArgument(
                f"cannot build from {url}", "it is no URL of a repository, a tar or a file", "Write https://…"
            )
        async with self.of_download(HttpSource(url=url, filename=RECIPE)) as tree:
            directory = await tree.place()
            assert isinstance(directory, Path)
            if not await self.files.is_archive(directory / RECIPE):
                tree.shown = "build context"
                size = _size(await tree.entries())
                yield Received(directory, tree, files=1, size=size, recipe_default=RECIPE)
                return
            archive = os.open(directory / RECIPE, os.O_RDONLY | os.O_CLOEXEC)
            try:
                async with self.of_archive(archive) as context:
                    yield context
            finally:
                os.close(archive)

    @asynccontextmanager
    async def _opened(self, place: Path, shown: str, entries: Sequence[SourceEntry]) -> AsyncIterator[Tree]:
        """As a tree whose ignored files come back at the end."""
        aside = Aside(place)
        try:
            yield Tree.of_directory(place / TREE, self.files, shown=shown, entries=entries, discard=aside.take)
        finally:
            with anyio.CancelScope(shield=True):
                await aside.put_back()

    # --- sources of ADD -------------------------------------------------------------------------------

    @asynccontextmanager
    async def of_download(self, source: HttpSource) -> AsyncIterator[Tree]:
        """A directory with the one file. InvalidArgument for a wrong checksum; NotFound, Unavailable."""
        from hooper.engine.downloads import key_of, obtain

        shown = without_secrets(source.url)
        key = key_of(source)
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(self._downloads.use(key, shown))
            async with self._downloads.locks.hold(str(place)):
                settled = self._downloads.is_shared(key)
                entries = await obtain(source, place, self._workers, self._limit, settled=settled)
            if entries is None:
                # Another build uses what was there before: this one gets the new file for itself.
                place = await stack.enter_async_context(temporary(self._directory))
                entries = await obtain(source, place, self._workers, self._limit)
            yield Tree.of_directory(place / TREE, self.files, shown=shown, entries=entries)

    @asynccontextmanager
    async def of_repository(self, source: GitSource, session: BuildSession | None = None) -> AsyncIterator[Tree]:
        """The files of a commit. `session` has the agent for ssh. InvalidArgument, NotFound, Unavailable."""
        async with self._checkout(source, session or NoSession(), alone=False) as (place, entries):
            yield Tree.of_directory(place / TREE, self.files, shown=without_secrets(source.remote), entries=entries)

    @asynccontextmanager
    async def _checkout(
        self, source: GitSource, session: BuildSession, *, alone: bool
    ) -> AsyncIterator[tuple[Path, list[SourceEntry]]]:
        from hooper.engine.build_git import check_out, key_of, remote_of

        shown = without_secrets(source.remote)
        async with remote_of(source, session, self._workers, self._directory) as remote:
            key = key_of(source, remote.commit)
            async with self._repositories.use(key, f"{shown} {remote.commit[:12]}", alone=alone) as place:
                async with self._repositories.locks.hold(str(place)):
                    entries = await check_out(remote, place, self._workers)
                yield place, entries


async def _hello(stream: socket.socket) -> tuple[str, str]:
    """Reads the first frame, and nothing beyond it."""
    try:
        head = await _exactly(stream, 5)
        body = await _exactly(stream, min(int.from_bytes(head[1:], "big"), 1 << 16))
    except OSError as error:
        raise Unavailable("cannot receive the build context", str(error), "Build again.") from error
    context_sync.expect(b"H", head[:1], body)
    return context_sync.hello(body)


async def _exactly(stream: socket.socket, count: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        more = await loop.sock_recv(stream, count - len(data))
        if not more:
            raise Unavailable("cannot receive the build context", "the client closed the stream", "Build again.")
        data += more
    return data


def _count(entries: Sequence[SourceEntry]) -> int:
    return sum(entry.kind != "directory" for entry in entries)


def _size(entries: Sequence[SourceEntry]) -> int:
    return sum(entry.size for entry in entries)
