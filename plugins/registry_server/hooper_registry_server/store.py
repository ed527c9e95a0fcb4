"""The registry behind the protocol: what can be asked of it, and what can be done to it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from hooper.api.errors import Conflict
from hooper_registry_server.blobs import Blobs, DirectoryBlobs
from hooper_registry_server.catalogue import Catalogue, Stored
from hooper_registry_server.images import EngineImages
from hooper_registry_server.names import HEX_DIGITS
from hooper_registry_server.problems import Problem, missing_blob, missing_manifest, missing_repository
from hooper_registry_server.uploads import Upload, Uploads


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Conflict if another server runs on the directory."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"{directory} is in use", "another registry server runs on it", "Stop that one.") from None
        yield
    finally:
        os.close(descriptor)


def _unknown_part(digest: str) -> Problem:
    message = "manifest references a manifest or blob unknown to registry"
    return Problem(404, "MANIFEST_BLOB_UNKNOWN", message, {"digest": digest})


class Opened(NamedTuple):
    """A blob that can be read; the caller closes the descriptor."""

    descriptor: int
    size: int


class Store:
    """Everything below one directory; `images` are served besides. Problems are raised for what is not there."""

    def __init__(
        self,
        directory: Path,
        make_blobs: Callable[[DirectoryBlobs, Catalogue], Blobs] | None = None,
        images: EngineImages | None = None,
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.catalogue = Catalogue(directory / "registry.db")
        own = DirectoryBlobs(directory, self.catalogue)
        self.blobs: Blobs = make_blobs(own, self.catalogue) if make_blobs else own
        self.uploads = Uploads(directory)
        self.images = images

    def close(self) -> None:
        self.catalogue.close()

    # --- repositories ---------------------------------------------------------------------------------

    def repositories(self) -> list[str]:
        more = self.images.repositories() if self.images else []
        return sorted({*self.catalogue.repositories(), *more})

    def exists(self, name: str) -> bool:
        return self.catalogue.exists(name) or (self.images is not None and bool(self.images.tags(name)))

    def tags(self, name: str) -> list[str]:
        """In the order of their bytes. NAME_UNKNOWN."""
        more = self.images.tags(name) if self.images else []
        if not more and not self.catalogue.exists(name):
            raise missing_repository(name)
        return sorted({*self.catalogue.tags(name), *more})

    # --- manifests ------------------------------------------------------------------------------------

    async def manifest(self, name: str, reference: str) -> Stored:
        """By tag or digest. What was pushed comes before what the engine has under the same name."""
        digest = reference if ":" in reference else self.catalogue.tagged(name, reference)
        found = self.catalogue.manifest(name, digest) if digest else None
        if found is None and self.images is not None:
            found = await self.images.manifest(name, reference)
        if found is None:
            raise missing_manifest(reference)
        return found

    async def put_manifest(
        self, name: str, manifest: Stored, tags: Sequence[str], check: Callable[[], None] | None = None
    ) -> None:
        """`check` is called when nobody else, no collection either, can change anything, and may raise."""

        def put() -> None:
            with self.catalogue.transaction():
                if check is not None:
                    check()
                self.catalogue.put(name, manifest, tags)

        await anyio.to_thread.run_sync(put)

    async def check_references(self, name: str, manifest: Stored, *, manifests: bool) -> None:
        """MANIFEST_BLOB_UNKNOWN if the repository lacks what the manifest names; `manifests`: also other manifests."""
        for part in manifest.parts:
            if part.is_manifest:
                present = not manifests or await self._has_manifest(name, part.digest)
            elif self.catalogue.blob(name, part.digest) is not None:
                present = True
            else:
                # What belongs to an image of the engine is the repository's own from now on.
                present = not part.required or await self.mount(name, part.digest, [name])
            if not present:
                raise _unknown_part(part.digest)

    def check_links(self, name: str, manifest: Stored) -> None:
        """As the transaction around sees it: no collection has taken a blob away since `check_references`."""
        for part in manifest.parts:
            wanted = part.required and not part.is_manifest
            linked = "SELECT 1 FROM links WHERE repository=? AND digest=?"
            if wanted and not self.catalogue.current(linked, name, part.digest):
                raise _unknown_part(part.digest)

    async def _has_manifest(self, name: str, digest: str) -> bool:
        try:
            await self.manifest(name, digest)
        except Problem:
            return False
        return True

    async def delete_manifest(self, name: str, reference: str) -> None:
        """A digest goes with its tags, a tag alone."""
        delete = self.catalogue.delete_manifest if ":" in reference else self.catalogue.delete_tag
        if await anyio.to_thread.run_sync(delete, name, reference):
            return
        if not self.exists(name):
            raise missing_repository(name)
        await self.manifest(name, reference)
        raise Problem(405, "UNSUPPORTED", "it is an image of the engine, and is removed there")

    # --- blobs ----------------------------------------------------------------------------------------

    async def blob_size(self, name: str, digest: str, *, pushing: bool = False) -> int | None:
        """Of a blob of the repository, None if it has none. Whoever is `pushing` finds it there for a while."""
        size = self.catalogue.blob(name, digest)
        if size is not None and pushing and self.catalogue.needs_touch(name, digest):
            kept = await self.blobs.link(digest, partial(self.catalogue.touch, name, digest))
            size = size if kept else None
        if size is None and self.images is not None and self.images.has(name, digest):
            opened = self._open(digest)
            if opened is not None:
                os.close(opened.descriptor)
                size = opened.size
        return size

    def open_blob(self, name: str, digest: str) -> Opened:
        known = self.catalogue.blob(name, digest) is not None
        if not known and (self.images is None or not self.images.has(name, digest)):
            raise missing_blob(digest)
        opened = self._open(digest)
        if opened is None:
            raise missing_blob(digest)
        return opened

    def _open(self, digest: str) -> Opened | None:
        descriptor = self.blobs.open(digest)
        return None if descriptor is None else Opened(descriptor, os.fstat(descriptor).st_size)

    async def commit(self, name: str, upload: Upload, digest: str) -> None:
        """Ends an upload: the blob is in the repository. DIGEST_INVALID, and the upload is gone, if it is another."""
        algorithm = digest.partition(":")[0]
        assert algorithm in HEX_DIGITS
        try:
            found = await upload.digest(algorithm)
            if found != digest:
                detail = {"digest": digest, "found": found}
                raise Problem(400, "DIGEST_INVALID", "provided digest did not match uploaded content", detail)
            record = partial(self.catalogue.link, name, digest, upload.offset)
            await self.blobs.add(upload.path, digest, record)
        finally:
            self.uploads.forget(upload)

    async def mount(self, name: str, digest: str, sources: Sequence[str]) -> bool:
        """Takes the blob over from the first of the repositories that has it."""
        for source in sources:
            size = await self.blob_size(source, digest)
            if size is not None and await self.blobs.link(digest, partial(self._linked, name, digest, size)):
                return True
        return False

    def _linked(self, name: str, digest: str, size: int) -> bool:
        self.catalogue.link(name, digest, size)
        return True

    async def unlink(self, name: str, digest: str) -> None:
        """Takes the blob out of the repository; the file goes with the next collection."""
        if await anyio.to_thread.run_sync(self.catalogue.unlink, name, digest):
            return
        if self.images is not None and self.images.has(name, digest):
            raise Problem(405, "UNSUPPORTED", "it belongs to an image of the engine, and is removed there")
        raise missing_blob(digest)
