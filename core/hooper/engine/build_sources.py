"""The files of a build's sources: trees, and which of their files a COPY or a mount means."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from hooper.api.build_graph import CopySource
from hooper.api.errors import InvalidArgument
from hooper.api.patterns import Patterns
from hooper.api.storage import Mount
from hooper.content import selection
from hooper.content.selection import Item, Missing
from hooper.engine.build_files import BuildFiles, Place, SourceEntry

_IN_PLACE = 500
"""As many entries are looked through without a thread of their own."""

Ignored = Callable[[Sequence[str]], Awaitable[None]]
"""Takes files out of a directory. Each comes before those below it."""


class Selection(msgspec.Struct, frozen=True):
    """Files of one tree that a step uses."""

    items: tuple[Item, ...]
    digest: str
    """Of their contents, modes, attributes and names as the destination will have them; not of times."""
    matched: int
    """How many files and directories were named: several make the destination a directory."""


class Tree(ABC):
    """Files that can be copied from and mounted; nothing changes them as long as they are used.

    `shown` is what a person calls it.
    """

    def __init__(self, files: BuildFiles, shown: str) -> None:
        self._files, self.shown = files, shown
        self._patterns = Patterns(())
        self._ignore_file = ""
        self._selections: dict[tuple[object, ...], Selection] = {}

    @classmethod
    def of_chain(
        cls, chain: str, view: Callable[[str], Awaitable[Sequence[Mount]]], files: BuildFiles, shown: str = ""
    ) -> Tree:
        """The file system `chain`; `view` gives the mounts to read it by, and is asked when they are needed."""
        return _ChainTree(chain, view, files, shown)

    @classmethod
    def of_directory(
        cls,
        directory: Path,
        files: BuildFiles,
        shown: str = "",
        entries: Sequence[SourceEntry] | None = None,
        discard: Ignored | None = None,
    ) -> Tree:
        """A directory of the host's that is the build's own. `entries`: all that is in it, sorted, if that is known.

        `discard` takes out of it what an ignore file names; None: it has nothing to ignore.
        """
        return _DirectoryTree(directory, files, shown, entries, discard)

    @abstractmethod
    async def place(self) -> Place:
        """Where its files are, for a worker or a mount: without those that are ignored."""

    @abstractmethod
    async def entries(self, below: str = "") -> Sequence[SourceEntry]:
        """All at and below a path, sorted, but for what is ignored. No file is hashed twice. NotFound."""

    def ignore(self, patterns: Sequence[str], file: str) -> None:
        """Leaves out, from now on, what `patterns` say, which are those of the ignore file `file`. InvalidArgument."""
        self._patterns, self._ignore_file = Patterns(patterns), file
        self._selections.clear()

    def excluded_by(self, path: str) -> str:
        """The name of the ignore file that leaves a path out; "" if none does."""
        return self._ignore_file if self._patterns.matches(os.path.normpath(path).lstrip("/")) else ""

    @property
    def confined(self) -> bool:
        """Whether a name that begins with ".." is a mistake, not the root."""
        return False

    @abstractmethod
    async def chosen(
        self, paths: Sequence[str], *, literal: bool, parents: bool, exclude: Sequence[str]
    ) -> selection.Chosen:
        """What paths mean (`hooper.content.selection.choose`). Missing, InvalidArgument."""

    async def elsewhere(self, name: str) -> str:
        """A path, if there is one, of which `name` is the last part."""
        return ""

    async def select(
        self, source: CopySource, *, parents: bool, exclude: Sequence[str], keyword: str = ""
    ) -> Selection:
        """See the function `select`. What was found is kept."""
        key = source.paths, source.literal, parents, tuple(exclude)
        if key not in self._selections:
            try:
                for path in source.paths:
                    self._check(path)
                chosen = await self.chosen(source.paths, literal=source.literal, parents=parents, exclude=exclude)
            except Missing as missing:
                raise await self._error(missing, source, keyword) from None
            except InvalidArgument as error:
                if keyword:
                    error.what = f"{keyword} failed: {error.what}"
                raise
            self._selections[key] = Selection(tuple(chosen.items), chosen.digest, chosen.matched)
        return self._selections[key]

    def _check(self, path: str) -> None:
        first = os.path.normpath(path.lstrip("/") or ".").partition("/")[0]
        if self.confined and first == "..":
            raise InvalidArgument(
                f"forbidden path outside the build context: {path}",
                remedy="Copy it into the context, or build from the directory above.",
            )

    async def _error(self, missing: Missing, source: CopySource, keyword: str) -> InvalidArgument:
        """In Docker's words, and then what may help."""
        failed = f"{keyword} failed: " if keyword else ""
        path, where = missing.path, source.shown or self.shown or "the source"
        if missing.outside and self.confined:
            return InvalidArgument(
                f"{failed}forbidden path outside the build context: {path}",
                f"a link in it leads to {missing.outside}",
                "Put the file into the context, not behind a link.",
            )
        file = self.excluded_by(path)
        if missing.wild and not file:
            return InvalidArgument(
                f"{failed}no source files were specified", f"nothing in {where} matches {path}", "Check the pattern."
            )
        where = "" if self.confined else f" in {where}"
        if self.confined:
            failed += "file not found in build context or excluded by .dockerignore: "
        what = f"{failed}stat {path}: file does not exist{where}"
        if file:
            return InvalidArgument(what, f"{file} excludes it", f"Delete the pattern, or add !{path} below it.")
        near = missing.near or await self.elsewhere(path.rpartition("/")[2])
        return InvalidArgument(what, remedy=f"Did you mean {near}?" if near else "Is it spelled right?")


async def select(
    tree: Tree, source: CopySource, *, parents: bool = False, exclude: Sequence[str] = (), keyword: str = ""
) -> Selection:
    """The files that `source` means in its tree.

    InvalidArgument for one that is not there, that names the ignore file if that has left it out, or else the nearest
    name that is there; for a path or a link that leads out of a context; and for a bad pattern. With `keyword` (COPY)
    the error begins as Docker's does. Where several paths are patterns, one of them may match nothing.
    """
    return await tree.select(source, parents=parents, exclude=exclude, keyword=keyword)


class _ChainTree(Tree):
    def __init__(
        self, chain: str, view: Callable[[str], Awaitable[Sequence[Mount]]], files: BuildFiles, shown: str
    ) -> None:
        super().__init__(files, shown)
        self._chain, self._view = chain, view

    async def place(self) -> Place:
        return await self._view(self._chain)

    async def entries(self, below: str = "") -> Sequence[SourceEntry]:
        paths = (below,)
        known = self._files.known(self._chain, paths)
        if known is None:
            known = await self._files.list(await self.place(), paths)
            self._files.keep(self._chain, paths, known)
        return known

    async def chosen(
        self, paths: Sequence[str], *, literal: bool, parents: bool, exclude: Sequence[str]
    ) -> selection.Chosen:
        """In a worker, which looks at no other files than those."""
        return await self._files.choose(
            await self.place(), paths, literal=literal, parents=parents, exclude=exclude, owners=True
        )


class _DirectoryTree(Tree):
    def __init__(
        self,
        directory: Path,
        files: BuildFiles,
        shown: str,
        entries: Sequence[SourceEntry] | None,
        discard: Ignored | None,
    ) -> None:
        super().__init__(files, shown)
        self._directory, self._discard = directory, discard
        self._all = entries
        self._index: _Index | None = None
        self._lock = anyio.Lock()

    @property
    def confined(self) -> bool:
        return True

    def ignore(self, patterns: Sequence[str], file: str) -> None:
        super().ignore(patterns, file)
        self._index = None

    async def place(self) -> Place:
        await self._indexed()
        return self._directory

    async def entries(self, below: str = "") -> Sequence[SourceEntry]:
        index = await self._indexed()
        path = os.path.normpath("/" + below).lstrip("/")
        if not path:
            return index.entries
        start = f"{path}/"
        return [entry for entry in index.entries if entry.path == path or entry.path.startswith(start)]

    async def _indexed(self) -> _Index:
        """What is in it now. What has to be ignored has been taken out of it."""
        async with self._lock:
            if self._index is None:
                if self._all is None:
                    self._all = await self._files.list(self._directory, ("",))
                if len(self._all) > _IN_PLACE:
                    index, gone = await anyio.to_thread.run_sync(_indexed, self._all, self._patterns)
                else:
                    index, gone = _indexed(self._all, self._patterns)
                if gone and self._discard is not None:
                    await self._discard(gone)
                self._index, self._all = index, index.entries
            return self._index

    async def chosen(
        self, paths: Sequence[str], *, literal: bool, parents: bool, exclude: Sequence[str]
    ) -> selection.Chosen:
        index = await self._indexed()

        def choose() -> selection.Chosen:
            return selection.choose(index, paths, literal=literal, parents=parents, exclude=exclude)

        return await anyio.to_thread.run_sync(choose) if len(index.entries) > _IN_PLACE else choose()

    async def elsewhere(self, name: str) -> str:
        entries = (await self._indexed()).entries
        found = [entry.path for entry in entries if entry.path.rpartition("/")[2] == name]
        return min(found, key=lambda path: (path.count("/"), path), default="")


def _indexed(entries: Sequence[SourceEntry], patterns: Patterns) -> tuple[_Index, list[str]]:
    """What the patterns leave, and the paths that they take; of a directory that goes as a whole no more than itself.

    A directory that holds what stays, stays.
    """
    if not patterns:
        return _Index(entries), []
    taken = {entry.path for entry in entries if patterns.matches(entry.path)}
    if not taken:
        return _Index(entries), []
    needed = {path for entry in entries if entry.path not in taken for path in _above(entry.path)}
    left = [entry for entry in entries if entry.path not in taken or entry.path in needed]
    staying = {entry.path for entry in left}
    gone = [
        entry.path
        for entry in entries
        if entry.path not in staying and ((parent := entry.path.rpartition("/")[0]) in staying or not parent)
    ]
    return _Index(left), gone


def _above(path: str) -> Sequence[str]:
    found = []
    while path := path.rpartition("/")[0]:
        found.append(path)
    return found


class _Index:
    """`hooper.content.selection.View` of entries that are known."""

    def __init__(self, entries: Sequence[SourceEntry]) -> None:
        self.entries = entries
        self._found: Mapping[bytes, SourceEntry] = {os.fsencode(entry.path): entry for entry in entries}
        self._names: dict[bytes, list[bytes]] = {}
        for path in self._found:
            directory, _, name = path.rpartition(b"/")
            self._names.setdefault(directory, []).append(name)

    def kind(self, path: bytes) -> str:
        if not path:
            return "directory"
        entry = self._found.get(path)
        return entry.kind if entry else ""

    def link(self, path: bytes) -> bytes:
        return os.fsencode(self._found[path].link)

    def names(self, path: bytes) -> Sequence[bytes]:
        return sorted(self._names.get(path, ()))

    def digest(self, path: bytes) -> str:
        return self._found[path].digest
