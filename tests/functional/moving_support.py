"""What the tests of moving share: two daemons side by side, a proxy that cuts, and what is left when all is over."""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import support
from hooper.client.address import parse_address
from hooper.client.api import ApiClient
from hooper.client.moving import Mover

WISHES = {"name": "", "volumes": "error", "networks": "create", "allow_binds": False}


def client(address: str) -> ApiClient:
    return ApiClient(parse_address(address))


def mover(source: str, target: str, **wishes: Any) -> Mover:
    made = Mover(client(source), client(target), {**WISHES, **wishes}, say=lambda line: None)
    made.idle = made.patience = 1.0
    return made


def move(source: str, target: str, name: str, **wishes: Any) -> dict[str, Any]:
    made = mover(source, target, **wishes)
    return made.move(*made.prepare(name))


class CuttingProxy:
    """A unix socket in front of another one, which breaks all connections after `limit` bytes in both directions.

    Afterwards it refuses connections (`for_good`) or lets them through uncut.
    """

    def __init__(self, path: Path, upstream: str, limit: int, *, for_good: bool) -> None:
        self.address = f"unix://{path}"
        self._upstream, self._left, self._for_good = upstream, limit, for_good
        self.cut = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.cut and self._for_good:
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self._upstream)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            threading.Thread(target=self._pump, args=(near, far), daemon=True).start()

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                ready, _, _ = select.select([near, far], [], [])
                for sock in ready:
                    data = sock.recv(65536)
                    passed = self._take(data)
                    if not passed:
                        raise OSError
                    (far if sock is near else near).sendall(passed)
        for sock in (near, far):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        with self._lock:
            self._open -= {near, far}

    def _take(self, data: bytes) -> bytes:
        """What of it goes through; the last byte of the limit cuts everything."""
        with self._lock:
            if self.cut:
                return data
            passed = data[: self._left]
            self._left -= len(passed)
            if self._left <= 0 and len(passed) <= len(data):
                self.cut = True
                for sock in self._open:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
                return b""
            return passed

    def close(self) -> None:
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def has(engine: support.Engine, name: str) -> bool:
    return engine.request("GET", f"/containers/{name}/json")[0] == 200


MOUNT_POINTS = {
    ".dockerenv", "dev", "dev/console", "dev/pts", "dev/shm", "proc", "sys", "etc/hostname", "etc/hosts", "etc/mtab",
    "etc/resolv.conf",
}  # fmt: skip
"""What each engine makes itself: the times are its own."""


def files(engine: support.Engine, name: str) -> dict[str, tuple[Any, ...]]:
    """Everything about each file of a container that an archive can tell, by path. Volumes are not part of it."""
    connection = support.UnixHttp(engine.socket_path)
    connection.request("GET", f"/containers/{name}/export")
    data = connection.getresponse().read()
    connection.close()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            found[entry.name] = (
                entry.type, entry.mode, entry.uid, entry.gid, entry.size,
                0 if entry.name in MOUNT_POINTS else int(entry.mtime), entry.linkname,
                entry.devmajor, entry.devminor,
                tuple(sorted((k, v) for k, v in entry.pax_headers.items() if "xattr" in k)),
                content.read() if content else b"",
            )  # fmt: skip
    return found


def rows(engine: support.Engine, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(engine.data_root / "hooper.db", timeout=10)) as database:
        return database.execute(sql).fetchall()


def left_over(engine: support.Engine) -> list[str]:
    """What no container, volume, image or network accounts for."""
    ids = {row[0] for row in rows(engine, "SELECT id FROM containers")}
    found = [f"transfer {row}" for row in rows(engine, "SELECT id, state FROM transfers WHERE document!=x''")]
    staged = engine.data_root / "moving"
    found += [f"staged {name}" for name in (os.listdir(staged) if staged.is_dir() else ())]
    home = engine.data_root / "containers"
    found += [f"directory {name}" for name in set(os.listdir(home) if home.is_dir() else ()) - ids]
    for (key,) in rows(engine, "SELECT key FROM driver_state WHERE driver LIKE 'storage-%' AND key LIKE 'snapshot/%'"):
        bare = str(key).removeprefix("snapshot/")
        if bare not in ids and not bare.startswith(("sha256:", "init-")):
            found.append(f"snapshot {key}")
    volumes = {row[0] for row in rows(engine, "SELECT name FROM volumes")}
    on_disk = engine.data_root / "drivers" / "volume-local"
    found += [f"volume {name}" for name in set(os.listdir(on_disk) if on_disk.is_dir() else ()) - volumes]
    endpoints = {row[0] for row in rows(engine, "SELECT container_id FROM endpoints")}
    found += [f"endpoint of {name}" for name in endpoints - ids]
    return found


@contextlib.contextmanager
def tmpfs(directory: Path, size: str) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    support.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    try:
        yield directory
    finally:
        support.run("umount", "-l", str(directory))
