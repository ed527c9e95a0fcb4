"""Launchers and containers of a backend that isolates nothing, and a user's end of a connection."""

from __future__ import annotations

import logging
import socket
import struct
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import runtime_fake

from hooper.api import oci
from hooper.api.driver import HostInfo
from hooper.api.isolation import Bundle, Outline
from hooper.api.logs import LogTarget
from hooper.runtime import wire
from hooper.runtime.client import Launcher, MonitorClient
from hooper.runtime.protocol import Attach, Exited, Spawn

HERE = Path(__file__).parent


class _Log:
    def warning(self, *arguments: object, **values: object) -> None:
        logging.getLogger(__name__).warning("%s %s", arguments, values)


def make_launcher(tmp_path: Path, backend: str = "FakeBackend") -> Launcher:
    host = HostInfo(True, 1, (6, 1), "amd64", tmp_path, tmp_path)
    backends = [
        ("fake", f"runtime_fake:{backend}", runtime_fake.FakeConfig(memory=42)),
        ("broken", "runtime_missing:Backend", None),
    ]
    loggers = [("json-file", "hooper_log_jsonfile.driver:JsonFileDriver", None)]
    return Launcher(backends, loggers, host, _Log())


def spawn_of(directory: Path, *args: str, **options: object) -> Spawn:
    directory.mkdir(exist_ok=True)
    spec = oci.Spec(oci_version="1.0.2", process=oci.Process(args=list(args)), root=oci.Root(path="/"))
    spec.hostname = str(options.pop("hostname", ""))
    bundle = Bundle(id=directory.name, directory=directory, spec=spec, rootfs=())
    choices: dict[str, Any] = {"backend": "fake", "netns": "host", "log_driver": "none", **options}
    return Spawn(
        container_id=bundle.id,
        directory=str(directory),
        bundle=wire.pack(bundle),
        outline=Outline(bundle.id, draft=runtime_fake.draft_of(bundle)),
        **choices,
    )


def logged(directory: Path) -> dict[str, object]:
    target = LogTarget(container_id="c", container_name="c", image="i", directory=directory)
    return {"log_driver": "json-file", "log": target}


class Client:
    """The user's end of a connection."""

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.settimeout(20)

    def give(self) -> int:
        return self.theirs.fileno()

    def given(self) -> None:
        self.theirs.close()

    async def read_all(self) -> bytes:
        def read() -> bytes:
            parts = []
            while part := self.sock.recv(1 << 20):
                parts.append(part)
            return b"".join(parts)

        return await anyio.to_thread.run_sync(read)

    async def read_until(self, end: bytes) -> bytes:
        def read() -> bytes:
            data = b""
            while end not in data:
                part = self.sock.recv(65536)
                assert part, data
                data += part
            return data

        return await anyio.to_thread.run_sync(read)


def frames(data: bytes) -> dict[int, bytes]:
    streams = {1: b"", 2: b""}
    while data:
        number, size = struct.unpack(">BxxxL", data[:8])
        assert len(data) >= 8 + size
        streams[number] += data[8 : 8 + size]
        data = data[8 + size :]
    return streams


class Exit:
    def __init__(self, monitor: MonitorClient) -> None:
        self._event, self.value = anyio.Event(), Exited(exit_code=-1, oom_killed=False, time_ns=0)
        monitor.on_exit(self._set)

    def _set(self, exited: Exited) -> None:
        self.value = exited
        self._event.set()

    async def wait(self) -> Exited:
        with anyio.fail_after(20):
            await self._event.wait()
        return self.value


async def launch(launcher: Launcher, spawn: Spawn, *clients: Client) -> tuple[MonitorClient, Exit]:
    monitor = await launcher.spawn(spawn, [client.give() for client in clients])
    for client in clients:
        client.given()
    assert await monitor.created() > 0
    started = await monitor.start()
    assert started.time_ns > 0
    return monitor, Exit(monitor)


BOTH = Attach(stdout=True, stderr=True)
ALL = Attach(stdin=True, stdout=True, stderr=True)
