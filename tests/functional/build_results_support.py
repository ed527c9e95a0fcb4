"""File systems made by hand on real drivers, as a solver makes them, and a client that takes what it is sent."""

from __future__ import annotations

import io
import os
import signal
import socket
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from images_support import Host
from test_registry_storage import opened

from hooper.api.build_events import Noted
from hooper.api.build_session import BuildSession
from hooper.api.builder import Progress
from hooper.api.errors import NotFound
from hooper.engine.build_image import Made
from hooper.engine.build_layers import BuildLayers
from hooper.engine.build_times import clamp_times
from hooper.engine.layers import KeyedLocks
from hooper.testing.workers import ForkWorkers
from hooper_storage_overlay.driver import OverlayDriver
from hooper_storage_vfs.driver import VfsDriver

KINDS = [OverlayDriver, VfsDriver]
NOTHING = Made("", (), "", False)


def tar_with(files: Mapping[str, bytes | None], mtime: int = 1000) -> bytes:
    """A layer's tar: None is a directory; a name with ".wh." a deletion."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = mtime, 0o755 if content is None else 0o644
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


class Told(Progress):
    def __init__(self) -> None:
        self.events: list[Any] = []

    async def event(self, event: Any) -> None:
        self.events.append(event)

    def notes(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Noted))


class Client(BuildSession):
    """Keeps what it is sent, see `received`; sends what is in `sends`. `takes`: bytes after which it stops reading;
    `stalls`: then it does not go, either. `says` is what it tells before it closes.

    Each stream has a process of its own: workers are forks of this one, and would have both ends of it.
    """

    def __init__(self, *, takes: int = 1 << 60, stalls: bool = False, says: bytes = b"") -> None:
        self.sends: dict[tuple[str, str], bytes] = {}
        self.opened: list[tuple[str, str]] = []
        self._takes, self._stalls, self._says = takes, stalls, says
        self._served: dict[tuple[str, str], tuple[int, Any]] = {}

    def received(self, kind: str = "output", name: str = "1") -> bytes:
        """What came, once the stream is closed."""
        pid, file = self._served.pop((kind, name))
        os.waitpid(pid, 0)
        with file:
            file.seek(0)
            data: bytes = file.read()
        return data

    async def open(self, kind: str, name: str, parameters: Any = None) -> socket.socket:
        self.opened.append((kind, name))
        if kind == "cache-in" and (kind, name) not in self.sends:
            raise NotFound(f'{kind} "{name}"', "there is no such directory")
        ours, theirs = socket.socketpair()
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed where it is read
        pid = os.fork()
        if not pid:
            try:
                ours.close()
                self._serve(theirs, self.sends.get((kind, name)), file)
            finally:
                os._exit(0)
        theirs.close()
        self._served[kind, name] = pid, file
        ours.setblocking(False)
        return ours

    def _serve(self, connection: socket.socket, sends: bytes | None, file: Any) -> None:
        if sends is not None:
            connection.sendall(sends)
            return
        while self._takes > 0:
            piece = connection.recv(1 << 16)
            if not piece:
                break
            self._takes -= len(piece)
            file.write(piece)
        file.flush()
        if self._stalls:
            time.sleep(600)
        connection.sendall(self._says)

    def end(self) -> None:
        """Ends the processes of streams that were not asked for."""
        for pid, file in self._served.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            file.close()


class Bench:
    """One build on a host."""

    def __init__(self, host: Host, layers: BuildLayers) -> None:
        self.host, self.layers, self.told = host, layers, Told()
        self.workers, self.storage = ForkWorkers(), host.images.layers.storage

    async def step(
        self,
        base: Made,
        files: Mapping[str, bytes | None],
        *,
        epoch: int | None = None,
        onto: bool = False,
        mtime: int = 1000,
    ) -> Made:
        """What a step leaves that makes (and with ".wh." removes) these files. `onto`: by way of a snapshot on which
        mount points were made, as of a command."""
        parent = await self._with_mount_points(base.chain) if onto else base.chain
        async with self.layers.snapshot(parent) as (key, _):
            with tempfile.TemporaryFile() as file:
                file.write(tar_with(files, mtime))
                file.seek(0)
                await self.storage.apply(key, file.fileno())
            if epoch is not None:
                await clamp_times(self.storage, self.workers, key, epoch)
            keep = self.layers.keep_onto if onto else self.layers.keep
            layer = await keep(key, base.chain)
        return Made(layer.chain_id, (*base.diff_ids, layer.diff_id), "2024-05-01T00:00:00Z", True)

    async def _with_mount_points(self, chain: str) -> str:
        name = f"init-{chain}"
        if name not in {info.key async for info in self.storage.walk()}:
            mounts = await self.storage.prepare("init-new", chain)
            await self.workers.run("hooper.engine.init_layer:populate", {"mounts": msgspec.to_builtins(mounts)})
            await self.storage.commit(name, "init-new")
        return name

    async def files(self, made: Made) -> dict[str, tuple[bytes, float]]:
        """All files of a file system, with content and time."""
        mounts = msgspec.to_builtins(await self.layers.view(made.chain))
        with tempfile.TemporaryFile() as file:
            await self.workers.run("hooper.content.files:export_tree", {"mounts": mounts}, [file.fileno()])
            file.seek(0)
            return files_of(file.read())


def files_of(tar: bytes) -> dict[str, tuple[bytes, float]]:
    """Of the files and directories of a tar: content and time."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {
            member.name: (file.read() if (file := archive.extractfile(member)) else b"", member.mtime)
            for member in archive
        }


@asynccontextmanager
async def bench(kind: Any, root: Path) -> AsyncIterator[Bench]:
    """A build on a new host; at the end nothing but layers is left of it."""
    async with opened(kind, root) as host, building(host) as made:
        yield made


@asynccontextmanager
async def building(host: Host) -> AsyncIterator[Bench]:
    directory = Path(tempfile.mkdtemp(dir=host.database.path.parent))
    others = await _unfinished(host)
    with host.images.layers.lease() as lease:
        layers = BuildLayers(host.images.layers, host.images.layers.storage, lease, KeyedLocks(), directory)
        try:
            yield Bench(host, layers)
        finally:
            with anyio.CancelScope(shield=True):
                await layers.aclose()
    assert os.listdir(directory) == []
    assert await _unfinished(host) == others


async def _unfinished(host: Host) -> tuple[set[str], int]:
    """Snapshots that are no layers, and leases."""
    snapshots = {info.key async for info in host.images.layers.storage.walk() if info.kind != "committed"}
    return snapshots, host.rows("leases")
