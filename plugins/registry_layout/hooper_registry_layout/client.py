"""The verbs of a registry on a layout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
import msgspec

from hooper.api.driver import Workers
from hooper.api.errors import Conflict, DataLoss, NotFound
from hooper.api.layout import DOCKER_ARCHIVE, INDEX, MARK, MARK_CONTENT, blob_path
from hooper.api.manifests import NO_JSON, OCI_INDEX, OCI_MANIFEST, Index, as_referrer
from hooper.api.reference import is_digest
from hooper.api.registry import Descriptor, Manifest, RegistryClient
from hooper_registry_layout import index as layout
from hooper_registry_layout.files import Directory, Files, copy, open_tar, read

_CHUNK = 1 << 20
_MANIFEST_MAX = 4 << 20


class LayoutClient(RegistryClient):
    """A layout in a directory, which is made by the first push. A repository's tag is called REPOSITORY:TAG in it, and
    those of the repository "" as they are; blobs are common to all."""

    def __init__(self, path: Path, shown: str, files: Files | None = None) -> None:
        self._path, self._shown = path, shown
        self._files: Files = files or Directory(path)
        self._docker: layout.Archived | None = None

    def close(self) -> None:
        self._files.close()

    def use_docker_manifest(self) -> None:
        """Takes the images from manifest.json."""
        self._docker = layout.docker_index(self._files, self._shown)

    # --- pulling --------------------------------------------------------------------------------------

    def _index(self) -> Index:
        return self._docker.listed if self._docker else layout.load_index(self._files, self._shown)

    def _blob(self, digest: str) -> str:
        if not is_digest(digest):
            raise NotFound(f"blob {digest} of {self._shown} not found", "that is no digest")
        return self._docker.blobs.get(digest, "") if self._docker else blob_path(digest)

    async def resolve(self, repository: str, reference: str) -> Manifest:
        return await anyio.to_thread.run_sync(self._resolve, repository, reference)

    def _resolve(self, repository: str, reference: str) -> Manifest:
        if is_digest(reference):
            entry = Descriptor("", reference, 0)
        else:
            entry = layout.find(self._index(), _name(repository, reference), self._shown)
        content = self._content(entry.digest)
        layout.check_digest(content, entry.digest, self._shown)
        return Manifest(Descriptor(entry.media_type or self._media_type(content), entry.digest, len(content)), content)

    def _media_type(self, content: bytes) -> str:
        """DataLoss for what is no manifest: anything here may be asked for by its digest."""
        value = self._decoded(content)
        return value.media_type or (OCI_INDEX if value.manifests else OCI_MANIFEST)

    def _decoded(self, content: bytes) -> _Parts:
        try:
            return msgspec.json.decode(content, type=_Parts)
        except NO_JSON as error:
            raise DataLoss(f"a manifest of {self._shown} is damaged", str(error), "Write the layout again.") from error

    def _content(self, digest: str) -> bytes:
        if self._docker and digest in self._docker.manifests:
            return self._docker.manifests[digest]
        if not self._has(digest):
            raise NotFound(f"manifest for {self._shown}@{digest} not found")
        return read(self._files, self._blob(digest), _MANIFEST_MAX)

    def _has(self, digest: str) -> bool:
        name = self._blob(digest)
        return bool(name) and self._files.has(name)

    @asynccontextmanager
    async def fetch(self, repository: str, blob: Descriptor, offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        if not self._has(blob.digest):
            raise NotFound(f"blob {blob.digest} of {self._shown} not found", remedy="Write the layout again.")
        part = self._files.open(self._blob(blob.digest))
        try:
            yield _chunks(part.descriptor, part.offset + offset, part.size - offset)
        finally:
            os.close(part.descriptor)

    async def has_blob(self, repository: str, digest: str) -> bool:
        return self._has(digest)

    async def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        return self._has(digest)

    async def tags(self, repository: str) -> Sequence[str]:
        start = f"{repository}:" if repository else ""
        index = await anyio.to_thread.run_sync(self._index)
        names = [name for entry in index.manifests for name in layout.names_of(entry)[:1]]
        return sorted({name.removeprefix(start) for name in names if name.startswith(start)})

    async def referrers(self, repository: str, digest: str) -> Sequence[Descriptor]:
        return await anyio.to_thread.run_sync(self._referrers, digest)

    def _referrers(self, digest: str) -> Sequence[Descriptor]:
        found = {}
        for entry in self._index().manifests:
            subject, referrer = as_referrer(Manifest(entry, self._content(entry.digest)))
            if subject == digest:
                found[entry.digest] = referrer
        return list(found.values())

    async def check_login(self) -> str:
        return ""

    # --- pushing --------------------------------------------------------------------------------------

    async def push_blob(self, repository: str, blob: Descriptor, read: Callable[[int], AsyncIterator[bytes]]) -> None:
        if self._has(blob.digest):
            return
        target = await anyio.to_thread.run_sync(self._prepared, blob.digest)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
        digest, size = hashlib.new(blob.digest.partition(":")[0]), 0
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                async for chunk in read(0):
                    size += len(chunk)
                    await anyio.to_thread.run_sync(_take, file.fileno(), digest, chunk)
                if digest.hexdigest() != blob.digest.partition(":")[2] or size != blob.size:
                    raise DataLoss(f"blob {blob.digest} is damaged", f"{size} of {blob.size} bytes came, or others")
                os.fchmod(file.fileno(), 0o644)
                await anyio.to_thread.run_sync(os.fsync, file.fileno())
            os.rename(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _prepared(self, digest: str) -> Path:
        target = self._path / self._blob(digest)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not (self._path / MARK).exists():
            _replace(self._path / MARK, MARK_CONTENT)
        return target

    async def push_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """A reference "" makes it an image without a name, which a digest finds, and "" if it is the only one."""
        await anyio.to_thread.run_sync(self._push_manifest, repository, reference, manifest)

    def _push_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        digest = manifest.descriptor.digest
        layout.check_digest(manifest.content, digest, self._shown)
        self._check_named(manifest)
        _replace(self._prepared(digest), manifest.content)
        with self._changing() as index:
            if is_digest(reference):
                if not as_referrer(manifest)[0]:
                    return
                reference = ""
            name = _name(repository, reference) if reference else ""
            entry = layout.annotated(manifest, name)
            names = layout.names_of(entry)
            index.manifests[:] = [old for old in index.manifests if not _displaced(old, digest, names)]
            index.manifests.append(entry)

    def _check_named(self, manifest: Manifest) -> None:
        """NotFound if a configuration or a layer is missing."""
        value = self._decoded(manifest.content)
        for part in (*([value.config] if value.config else []), *value.layers):
            if not part.urls and not self._has(part.digest):
                raise NotFound(f"blob {part.digest} of {self._shown} not found", "the manifest names it", "Push it.")

    async def delete(self, repository: str, reference: str) -> None:
        """A tag, or by its digest a manifest with all its tags. Blobs stay."""
        await anyio.to_thread.run_sync(self._delete, repository, reference)

    def _delete(self, repository: str, reference: str) -> None:
        with self._changing() as index:
            if is_digest(reference):
                left = [entry for entry in index.manifests if entry.digest != reference]
                if len(left) == len(index.manifests) and not self._has(reference):
                    raise NotFound(f"manifest for {self._shown}@{reference} not found")
                (self._path / self._blob(reference)).unlink(missing_ok=True)
            else:
                gone = layout.find(index, _name(repository, reference), self._shown)
                left = [entry for entry in index.manifests if entry != gone]
            index.manifests[:] = left

    @contextmanager
    def _changing(self) -> Iterator[Index]:
        """The index, which is written at the end; others that change it wait."""
        lock = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            index = layout.load_index(self._files, self._shown)
            yield index
            index.media_type = index.media_type or OCI_INDEX
            _replace(self._path / INDEX, msgspec.json.encode(index))
        finally:
            os.close(lock)


class ArchiveClient(LayoutClient):
    """A layout in a tar, opened when it is first used; a push works on a copy of it, which `write_back` packs."""

    def __init__(self, archive: Path, scheme: str, scratch: Path, workers: Workers) -> None:
        super().__init__(archive, f"{scheme}:{archive}")
        self._archive, self._scheme, self._scratch, self._workers = archive, scheme, scratch, workers
        self._lock, self._opened, self._changed = anyio.Lock(), False, False

    async def _open(self) -> None:
        async with self._lock:
            if self._opened:
                return
            tar = await open_tar(self._archive, self._workers, self._scratch)
            self._files, self._opened = tar, True
            if not tar.has(INDEX):
                await anyio.to_thread.run_sync(self.use_docker_manifest)

    async def _begin(self) -> None:
        """Takes an existing archive apart, to add to it."""
        async with self._lock:
            if self._changed:
                return
            self._path = Path(tempfile.mkdtemp(dir=self._scratch, prefix="archive-"))
            self._changed = True
            if self._archive.exists() and self._archive.stat().st_size:
                await self._unpack()
            self._files.close()
            self._files, self._docker, self._opened = Directory(self._path), None, True

    async def _unpack(self) -> None:
        tar = await open_tar(self._archive, self._workers, self._scratch)
        try:
            if not tar.has(INDEX):
                raise Conflict(
                    f"cannot add to {self._shown}", "it is of an old kind, without an index", "Write a new file."
                )
            names = [name for name in tar.names if name.startswith("blobs/")]
            for name in (*names, INDEX, MARK):
                (self._path / name).parent.mkdir(parents=True, exist_ok=True)
                await anyio.to_thread.run_sync(copy, tar.open(name), self._path / name)
        finally:
            tar.close()

    async def resolve(self, repository: str, reference: str) -> Manifest:
        await self._open()
        return await super().resolve(repository, reference)

    @asynccontextmanager
    async def fetch(self, repository: str, blob: Descriptor, offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._open()
        async with super().fetch(repository, blob, offset) as chunks:
            yield chunks

    async def tags(self, repository: str) -> Sequence[str]:
        await self._open()
        return await super().tags(repository)

    async def referrers(self, repository: str, digest: str) -> Sequence[Descriptor]:
        await self._open()
        return await super().referrers(repository, digest)

    async def has_blob(self, repository: str, digest: str) -> bool:
        await self._begin()
        return await super().has_blob(repository, digest)

    async def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        await self._begin()
        return await super().mount_blob(repository, digest, source)

    async def push_blob(self, repository: str, blob: Descriptor, read: Callable[[int], AsyncIterator[bytes]]) -> None:
        await self._begin()
        await super().push_blob(repository, blob, read)

    async def push_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        await self._begin()
        await super().push_manifest(repository, reference, manifest)

    async def delete(self, repository: str, reference: str) -> None:
        await self._begin()
        await super().delete(repository, reference)

    def write_back(self) -> None:
        """Packs what was changed; the archive is the old one or the new one at every moment."""
        if not self._changed or not (self._path / INDEX).exists():
            return
        if self._scheme == DOCKER_ARCHIVE:
            entries = layout.docker_entries(self._files, layout.load_index(self._files, self._shown))
            _replace(self._path / layout.DOCKER_MANIFEST, msgspec.json.encode(entries))
        descriptor, name = tempfile.mkstemp(dir=self._archive.parent, prefix=f".{self._archive.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                _pack(self._path, file)
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.rename(name, self._archive)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def close(self) -> None:
        super().close()
        if self._changed:
            shutil.rmtree(self._path, ignore_errors=True)


class _Parts(msgspec.Struct, rename="camel"):
    """What of any manifest or index matters here."""

    media_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Descriptor] = []


def _displaced(old: Descriptor, digest: str, names: Sequence[str]) -> bool:
    """Whether an entry gives way to one of these names; a nameless one to any of its own manifest."""
    theirs = layout.names_of(old)
    if not theirs:
        return old.digest == digest
    return bool(names) and theirs[0] == names[0] and theirs[-1] == names[-1]


def _name(repository: str, reference: str) -> str:
    return f"{repository}:{reference}" if repository and reference else repository or reference


async def _chunks(descriptor: int, offset: int, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        chunk = await anyio.to_thread.run_sync(os.pread, descriptor, min(size, _CHUNK), offset)
        if not chunk:
            return
        offset, size = offset + len(chunk), size - len(chunk)
        yield chunk


def _take(descriptor: int, digest: hashlib._Hash, chunk: bytes) -> None:
    digest.update(chunk)
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        os.rename(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _pack(directory: Path, output: IO[bytes]) -> None:
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(directory.rglob("*")):
            if not path.is_file() or path.name.startswith(".new-"):
                continue
            info = tarfile.TarInfo(str(path.relative_to(directory)))
            info.size, info.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(info, file)
