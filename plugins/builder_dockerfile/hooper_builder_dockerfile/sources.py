"""COPY and ADD: from the words of an instruction to the files they mean, and the digest of those."""

from __future__ import annotations

import hashlib
import posixpath
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import anyio

from hooper.api.builder import BuildServices, CopySource, SourceEntry
from hooper.api.errors import NotFound
from hooper_builder_dockerfile.context import Context
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.patterns import compiled, has_wildcards, unescaped

if TYPE_CHECKING:
    from hooper_builder_dockerfile import instructions as ins
    from hooper_builder_dockerfile.scope import Scope


@dataclass(frozen=True)
class Found:
    """Files that one word stands for."""

    source: CopySource
    digest: str
    """Of names and contents."""
    kind: str
    """file, dir or url."""


class Sources:
    """Finds sources; `close` removes what it wrote for here-documents."""

    def __init__(self, services: BuildServices, context: Context, temporary: Path) -> None:
        self._services, self._context, self._temporary = services, context, temporary
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    async def find(self, step: ins.Transfer, scope: Scope, chain: str | None) -> list[Found]:
        """All sources of an instruction. `chain` is the file system of --from; None: the context."""
        documents = {document.name: document for document in step.heredocs}
        found: list[Found] = []
        for word in step.sources:
            if document := documents.get(word.split("<<", 1)[-1].lstrip("-").strip("'\"")) if "<<" in word else None:
                content = scope.expand(document.content) if document.expand else document.content
                found.append(await self._written(document.name, content))
                continue
            path = scope.expand(word)
            if step.keyword == "ADD" and _is_git(path):
                raise Fault(f"ADD {path}: git repositories are not supported", "Clone it outside and COPY it.")
            if step.keyword == "ADD" and is_url(path):
                found.append(await self._downloaded(path, step))
                continue
            if step.checksum:
                raise Fault("--checksum is for URLs alone", "Delete the flag.")
            found += await self._local(path, step.keyword, chain)
        return found

    async def _written(self, name: str, content: str) -> Found:
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir=self._temporary)))
        file = directory / name
        file.write_text(content, "utf-8")
        file.chmod(0o644)
        digest = hashlib.sha256(f"{name}\0{content}".encode()).hexdigest()
        return Found(CopySource(directory, "", (name,)), digest, "file")

    async def _downloaded(self, url: str, step: ins.Transfer) -> Found:
        name = posixpath.basename(unquote(urlsplit(url).path))
        if not name and step.destination.endswith("/"):
            raise Fault(f"cannot determine filename for source {url}", "End the destination with a file name.")
        directory = await self._services.download(url)
        entries = await self._services.list_sources(CopySource(directory, "", ("",)))
        file = next(entry for entry in entries if entry.kind == "file")
        if step.checksum:
            await anyio.to_thread.run_sync(_verify, directory / file.path, step.checksum)
        return Found(CopySource(directory, "", (file.path,)), _digest(file.path, [file]), "file")

    async def _local(self, path: str, keyword: str, chain: str | None) -> list[Found]:
        clean = posixpath.normpath(path.lstrip("/") or ".")
        if chain is None and (clean == ".." or clean.startswith("../")):
            raise Fault(
                f"{keyword} failed: forbidden path outside the build context: {path}",
                "Copy it into the context, or build from the directory above.",
            )
        clean = posixpath.normpath(f"/{clean}").lstrip("/")
        if chain is None and self._context.directory is None:
            raise Fault(f"{keyword} failed: there is no build context", "Give `build` a directory.")
        if has_wildcards(clean):
            return await self._matching(clean, keyword, chain)
        return [await self._named(clean, keyword, chain)]

    def _source(self, chain: str | None, path: str) -> CopySource:
        return CopySource(self._context.directory if chain is None else None, chain or "", (path,))

    async def _matching(self, pattern: str, keyword: str, chain: str | None) -> list[Found]:
        matcher = compiled(pattern)
        if chain is None:
            entries = await self._context.entries()
        else:
            entries = await self._listed(chain, _fixed_parent(pattern))
        paths = [entry.path for entry in entries if entry.path and matcher.fullmatch(entry.path)]
        if not paths:
            plain = unescaped(pattern)
            if plain != pattern and any(entry.path == plain for entry in entries):
                paths = [plain]
        if not paths:
            raise self._missing(pattern, keyword, chain, "no source files were specified: nothing matches")
        return [self._found(chain, path, entries) for path in paths]

    async def _named(self, path: str, keyword: str, chain: str | None) -> Found:
        entries = await self._context.entries() if chain is None else await self._listed(chain, path)
        own = next((entry for entry in entries if entry.path == path), None)
        if path and (own is None or own.kind == "symlink") and chain is None:
            # A link is followed, inside its root, by those who list and copy.
            entries = await self._listed(None, path)
            own = entries[0] if entries else None
        if path and own is None and not entries:
            where = "build context" if chain is None else "--from image or stage"
            raise self._missing(path, keyword, chain, f"file not found in {where}")
        return self._found(chain, path, entries)

    async def _listed(self, chain: str | None, path: str) -> Sequence[SourceEntry]:
        try:
            return await self._services.list_sources(self._source(chain, path))
        except NotFound:
            return ()

    def _found(self, chain: str | None, path: str, entries: Sequence[SourceEntry]) -> Found:
        below = f"{path}/" if path else ""
        own = [entry for entry in entries if entry.path == path or entry.path.startswith(below)] or list(entries)
        is_file = len(own) == 1 and own[0].kind != "directory"
        return Found(self._source(chain, path), _digest(path, own), "file" if is_file and path else "dir")

    def _missing(self, path: str, keyword: str, chain: str | None, why: str) -> Fault:
        if chain is None and self._context.ignores(path):
            return Fault(
                f"{keyword} failed: {why} or excluded by .dockerignore: stat {path}: file does not exist",
                f"{self._context.ignored_by} excludes it: add the line !{path} at its end.",
            )
        return Fault(
            f"{keyword} failed: {why}{' or excluded by .dockerignore' if chain is None else ''}: "
            f"stat {path}: file does not exist",
            "Paths are relative to the context's root." if chain is None else "Paths are relative to its root.",
        )


def _digest(path: str, entries: Sequence[SourceEntry]) -> str:
    """Of the files and of their names as the copy will have them: the names of directories copied do not count."""
    skip = len(path) + 1 if path else 0
    total = hashlib.sha256()
    for entry in entries:
        name = entry.path[skip:] if entry.path != path else ""
        if not name and entry.kind != "directory":
            name = posixpath.basename(path)
        total.update(f"{name}\0{entry.kind}\0{entry.digest}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _fixed_parent(pattern: str) -> str:
    parts = pattern.split("/")
    fixed = next((i for i, part in enumerate(parts) if has_wildcards(part)), len(parts))
    return "/".join(parts[:fixed])


def is_url(path: str) -> bool:
    return path.startswith(("http://", "https://"))


def _is_git(path: str) -> bool:
    if path.startswith(("git@", "git://", "ssh://")):
        return True
    return is_url(path) and urlsplit(path).path.endswith(".git")


def _verify(file: Path, checksum: str) -> None:
    algorithm, _, wanted = checksum.partition(":")
    if algorithm != "sha256" or len(wanted) != 64:
        raise Fault(f"unsupported checksum {checksum!r}", "Write --checksum=sha256:DIGEST.")
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != wanted:
        raise Fault(
            f"digest mismatch: the download has sha256:{actual}, expected {checksum}", "Check URL and checksum."
        )
