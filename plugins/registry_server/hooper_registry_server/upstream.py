"""Pull-through: what is asked for is fetched from another registry once, verified, and kept.

Tags are asked for there each time, for they move. While the other registry cannot be reached, what is kept is served.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from hooper.api.driver import DriverContext
from hooper.api.errors import HooperError, InvalidArgument, NotFound
from hooper.api.reference import DEFAULT_HOST
from hooper.api.registry import Credentials, Descriptor, RegistryClient, RegistryDriver
from hooper_registry_server.catalogue import Part, Stored
from hooper_registry_server.manifests import parse
from hooper_registry_server.names import digest_of
from hooper_registry_server.problems import Problem, missing_blob, missing_manifest, missing_repository, problem_of
from hooper_registry_server.settings import Settings
from hooper_registry_server.store import Opened, Store
from hooper_registry_server.uploads import Upload

_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
_PIECE = 1 << 20


@dataclass
class Download:
    """A blob that is being fetched; whoever wants it follows the file as it grows."""

    part: Part
    upload: Upload
    descriptor: int
    """The file, which bears the name of a blob shortly before the download is over."""
    changed: anyio.Event = field(default_factory=anyio.Event)
    error: Exception | None = None
    done: bool = False

    def tell(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    async def chunks(self, descriptor: int) -> AsyncIterator[bytes]:
        """All of it, from the beginning. An error of the download breaks it off: the bytes cannot be taken back."""
        position = 0
        while True:
            changed = self.changed
            if self.error is not None:
                raise self.error
            data = await anyio.to_thread.run_sync(os.pread, descriptor, _PIECE, position)
            # The last bytes are given out when all are verified.
            is_last = position + len(data) >= self.part.size
            if self.done or (data and not is_last):
                if not data:
                    return
                position += len(data)
                yield data
            else:
                await changed.wait()


class Upstream:
    """Opened by `run`, in whose task group downloads go on, also if whoever began them has gone away."""

    def __init__(self, settings: Settings, store: Store, log: Any) -> None:
        self._settings, self._store, self._log = settings, store, log
        self._driver, self._host = _driver(settings)
        self._credentials = _credentials(settings)
        self._downloads: dict[tuple[str, str], Download] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._client: RegistryClient | None = None

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled."""
        async with AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(self._driver.connect(self._host, self._credentials))
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            task_status.started()
            await anyio.sleep_forever()

    def _path(self, name: str) -> str:
        return f"library/{name}" if self._host == DEFAULT_HOST and "/" not in name else name

    @property
    def _connected(self) -> RegistryClient:
        assert self._client is not None
        return self._client

    async def manifest(self, name: str, reference: str) -> Stored:
        """The upstream's for a tag; for a digest the one that is kept, if any."""
        by_digest = ":" in reference
        if by_digest and (kept := self._store.catalogue.manifest(name, reference)):
            return kept
        try:
            found = await self._connected.resolve(self._path(name), reference)
        except NotFound:
            if not by_digest:
                await anyio.to_thread.run_sync(self._store.catalogue.delete_tag, name, reference)
            raise missing_manifest(reference) from None
        except HooperError as error:
            return await self._kept(name, reference, error)
        algorithm = reference.partition(":")[0] if by_digest else "sha256"
        digest = digest_of(found.content, algorithm)
        if by_digest and digest != reference:
            raise Problem(502, "DIGEST_INVALID", "the upstream's manifest has another digest")
        manifest = parse(found.content, found.descriptor.media_type, digest)
        await self._store.put_manifest(name, manifest, [] if by_digest else [reference])
        return manifest

    async def _kept(self, name: str, reference: str, error: HooperError) -> Stored:
        self._log.warning("the upstream cannot be asked", name=name, reference=reference, error=error.what)
        try:
            return await self._store.manifest(name, reference)
        except Problem:
            raise problem_of(error) from error

    async def tags(self, name: str) -> list[str]:
        try:
            return sorted(await self._connected.tags(self._path(name)))
        except NotFound:
            raise missing_repository(name) from None
        except HooperError as error:
            self._log.warning("the upstream cannot be asked", name=name, error=error.what)
            return self._store.tags(name)

    async def blob_size(self, name: str, digest: str) -> int | None:
        """Of what is kept, or what a manifest that is kept names."""
        size = await self._store.blob_size(name, digest)
        if size is None and (part := self._store.catalogue.named(name, digest)):
            size = part.size
        return size

    async def blob(self, name: str, digest: str) -> Opened | Download:
        """A blob that is kept, or that is on its way. BLOB_UNKNOWN unless a manifest that is kept names it."""
        try:
            return self._store.open_blob(name, digest)
        except Problem:
            part = self._store.catalogue.named(name, digest)
        if part is None:
            raise missing_blob(digest)
        if await self._store.mount(name, digest, self._store.catalogue.holders(digest)):
            return self._store.open_blob(name, digest)
        key = (name, digest)
        if key not in self._downloads:
            assert self._tasks is not None
            upload = self._store.uploads.start(name, digest.partition(":")[0])
            descriptor = os.open(upload.path, os.O_RDONLY | os.O_CLOEXEC)
            self._downloads[key] = download = Download(part, upload, descriptor)
            self._tasks.start_soon(self._download, name, download)
        return self._downloads[key]

    async def _download(self, name: str, download: Download) -> None:
        part, upload = download.part, download.upload
        blob = Descriptor(part.media_type, part.digest, part.size)
        try:
            async with self._connected.fetch(self._path(name), blob) as chunks:
                await upload.write(_telling(chunks, download), part.size)
            await self._store.commit(name, upload, part.digest)
        except (HooperError, Problem, OSError) as error:
            download.error = error
            self._log.warning("a blob could not be fetched", name=name, digest=part.digest, error=str(error))
        else:
            download.done = True
        finally:
            del self._downloads[name, part.digest]
            os.close(download.descriptor)
            if not download.done:
                download.error = download.error or Problem(503, "UNAVAILABLE", "the server stops")
                self._store.uploads.forget(upload)
            download.tell()


async def _telling(chunks: AsyncIterator[bytes], download: Download) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
        download.tell()


def _credentials(settings: Settings) -> Credentials | None:
    if not settings.upstream_username:
        return None
    try:
        password = Path(settings.upstream_password_file).read_text().strip()
    except OSError as error:
        raise InvalidArgument(
            "cannot read upstream_password_file", error.strerror or "", "Give a file with the password of the upstream."
        ) from error
    return Credentials(settings.upstream_username, password)


def _driver(settings: Settings) -> tuple[RegistryDriver, str]:
    """The registry driver of that name, whichever plugin brings it, and the upstream's host as drivers know it."""
    url = urlsplit(settings.upstream)
    if url.scheme not in ("http", "https") or not url.netloc or url.username or url.path.strip("/"):
        raise InvalidArgument(f'upstream "{url.hostname or settings.upstream}"', "it is not http[s]://HOST[:PORT]")
    host = DEFAULT_HOST if url.netloc in _DOCKER_HUB else url.netloc
    options = dict(settings.upstream_settings)
    if url.scheme == "http":
        options["insecure"] = [*options.get("insecure", []), url.netloc]
    spec = _find(settings.upstream_driver)
    config = msgspec.convert(options, _imported(spec.config)) if spec.config else None
    driver: RegistryDriver = _imported(spec.factory)(cast(DriverContext, SimpleNamespace(config=config)))
    return driver, host


def _find(name: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group="hooper.plugins"):
        try:
            register = getattr(point.load(), "hooper_register_registries", None)
            specs = list(register()) if register else []
        except Exception:
            # A broken plugin is told of by `hooper plugin doctor`; here it brings nothing.
            continue
        for spec in specs:
            if spec.name == name:
                return spec
    raise InvalidArgument(f'there is no registry driver "{name}"', remedy="The usual one is http.")


def _imported(path: str) -> Any:
    from importlib import import_module

    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
