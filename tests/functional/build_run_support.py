"""A runner of builds' commands on a real engine, in this process, with a client that is a mapping."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.to_thread
import structlog
from anyio.from_thread import start_blocking_portal
from msgspec.structs import replace

import support
from hooper.api.build_graph import CacheMount, ImageSource, LocalSource, Run, RunMount, Scratch
from hooper.api.build_session import BuildSession
from hooper.api.builder import BuildRequest
from hooper.api.errors import HooperError, NotFound
from hooper.config import load
from hooper.engine.build_runner import BuildRunner
from hooper.engine.engine import open_engine
from hooper.engine.init_layer import InitLayers
from hooper_net_bridge.naming import default_bridge

PATH = "PATH=/bin"


class Client(BuildSession):
    """Secrets by id, and agents by the path of their socket."""

    def __init__(self, secrets: Mapping[str, bytes] | None = None, agents: Mapping[str, Path] | None = None) -> None:
        self.secrets, self.agents = secrets or {}, agents or {}
        self.opened: list[tuple[str, str]] = []

    async def open(self, kind: str, name: str, parameters: Mapping[str, str] | None = None) -> socket.socket:
        self.opened.append((kind, name))
        known: Mapping[str, Any] = {"secret": self.secrets, "ssh": self.agents}[kind]
        if name not in known:
            raise NotFound(f'{kind} "{name}"', "the client was not given one")
        if kind == "ssh":
            agent = socket.socket(socket.AF_UNIX)
            agent.setblocking(False)
            await asyncio.get_running_loop().sock_connect(agent, str(known[name]))
            return agent
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        asyncio.get_running_loop().run_in_executor(None, _send, theirs, known[name])
        return ours


def _send(connection: socket.socket, content: bytes) -> None:
    with connection, suppress(OSError):
        connection.sendall(content)


@dataclass
class Ran:
    """What became of a command."""

    code: int = -1
    out: str = ""
    err: str = ""
    layer: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    """What it changed, by path."""


class Bench:
    """One engine with the image busybox."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.core = engine, engine.core
        self.runner = BuildRunner(self.core, InitLayers(self.core.storage, self.core.workers), self._live())
        self.busybox = ""

    def _live(self) -> dict[str, Any]:
        live: dict[str, Any] = self.engine.containers.lifecycle.live
        return live

    async def prepare(self) -> None:
        self.busybox = await self.imported("busybox", support.busybox_tar())

    async def imported(self, name: str, archive: bytes) -> str:
        """The chain id of a new image."""
        with tempfile.TemporaryFile() as file:
            file.write(archive)
            file.seek(0)
            await self.core.images.import_tar(file.fileno(), reference=name, changes=["ENV PATH=/bin"])
        chain: str = (await self.core.images.get(name)).chain
        return chain

    def image(self) -> ImageSource:
        return ImageSource(reference="busybox", image_id="", chain=self.busybox)

    async def run(
        self, command: str, *mounts: RunMount, client: BuildSession | None = None,
        directories: Mapping[LocalSource, Path] | None = None, request: BuildRequest | None = None,
        output: Any = None, contents: Any = None, chain: str = "", **more: Any,
    ) -> Ran:  # fmt: skip
        """Runs it on busybox, or what `chain` names. Images that mounts name are mounted as views."""
        more.setdefault("env", (PATH,))
        step = Run(base=Scratch(), args=("/bin/sh", "-ec", command), mounts=mounts, **more)
        asked = request or BuildRequest()
        asked = replace(asked, cgroup_parent=asked.cgroup_parent or f"/{CGROUP}")
        ran, said = Ran(), {1: bytearray(), 2: bytearray()}

        async def hear(stream: int, data: bytes) -> None:
            said[stream].extend(data)
            if output is not None:
                await output(stream, data)

        views, sources = [], dict(directories or {})
        for mount in mounts:
            node = getattr(mount, "source", None)
            if isinstance(node, ImageSource) and node not in sources:
                views.append(f"build-{uuid4().hex}")
                sources[node] = await self.core.storage.view(views[-1], node.chain)
        key = f"build-{uuid4().hex}"
        root = await self.core.storage.prepare(key, await self.runner.init_layer(chain or self.busybox))
        try:
            ran.code = await self.runner.run_step(
                root, step, request=asked, session=client or Client(), sources=sources,
                output=hear, contents=contents,
            )  # fmt: skip
            ran.layer = await self._layer(key)
        finally:
            with anyio.CancelScope(shield=True):
                for each in (key, *views):
                    await self.core.storage.remove(each)
        ran.out, ran.err = said[1].decode(), said[2].decode()
        return ran

    async def _layer(self, key: str) -> dict[str, tarfile.TarInfo]:
        with tempfile.TemporaryFile() as file:
            await self.core.storage.diff(key, file.fileno())
            file.seek(0)
            with tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
                return {entry.name.rstrip("/"): entry for entry in archive}

    def left(self) -> dict[str, list[str]]:
        """What there is on the host that only running commands have."""
        host = self.core.host
        roots = (str(host.exec_root), str(host.data_root))
        builds, mounts = host.data_root / "builds", Path("/proc/self/mounts").read_text()
        return {
            "mounts": [line for line in mounts.splitlines() if any(root in line for root in roots)],
            "run": os.listdir(host.exec_root / "containers"),
            "host mounts": os.listdir(host.exec_root / "mounts") if (host.exec_root / "mounts").exists() else [],
            "data": os.listdir(host.data_root / "containers") if (host.data_root / "containers").exists() else [],
            "builds": [name for name in os.listdir(builds) if name != "caches"] if builds.exists() else [],
            "endpoints": list(self.core.networks.connected()),
            "links": os.listdir(f"/sys/class/net/{default_bridge(host.exec_root)}/brif"),
            "cgroups": [str(path) for path in cgroups(f"{CGROUP}/*")],
        }  # fmt: skip


CGROUP = f"hooper-test-{uuid4().hex[:12]}"
"""Where the commands of this process's benches are."""


def cgroups(pattern: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [path for path in (*root.glob(f"*/{pattern}"), *root.glob(pattern)) if path.is_dir()]


@contextmanager
def opened(directory: Path, **drivers: str) -> Iterator[tuple[Any, Bench]]:
    """A portal into the event loop of an engine on roots in `directory`, and the bench. `drivers` are those to use."""
    roots = {"daemon.data_root": str(directory / "data"), "daemon.exec_root": str(directory / "exec")}
    config = load(None, roots | {f"{kind}.driver": name for kind, name in drivers.items()})
    engines = open_engine(config, structlog.get_logger())
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(engines) as (engine, _):
        bench = Bench(engine)
        portal.call(bench.prepare)
        yield portal, bench
    for path in cgroups(CGROUP):
        path.rmdir()


class Builds:
    """The bench, from outside of its event loop."""

    def __init__(self, portal: Any, bench: Bench) -> None:
        self.portal, self.bench = portal, bench

    def run(self, command: str, *mounts: Any, **more: Any) -> Ran:
        return self.call(lambda: self.bench.run(command, *mounts, **more))

    def ok(self, command: str, *mounts: Any, **more: Any) -> Ran:
        ran = self.run(command, *mounts, **more)
        assert ran.code == 0, ran
        return ran

    def call(self, function: Any) -> Any:
        return self.portal.call(function)

    def caches(self) -> dict[str, Any]:
        return {entry.id: entry for entry in self.call(self.bench.runner.caches.entries)}

    @contextmanager
    def nothing_left(self) -> Iterator[None]:
        """No command leaves anything on the host, however it ended."""
        before = self.bench.left()
        yield
        # The kernel takes its time with a network namespace.
        support.until(lambda: self.bench.left() == before, what=f"{self.bench.left()} like {before}")


@contextmanager
def opened_builds(directory: Path) -> Iterator[Builds]:
    """Of an engine on roots in `directory`."""
    with opened(directory) as (portal, bench):
        yield Builds(portal, bench)
    support.forget_network(directory / "exec")


# --- what commands are given ---

HIDDEN = b"s3cr3t-of-the-test-" + os.urandom(8).hex().encode()


def cache(id: str, **more: Any) -> CacheMount:
    return CacheMount(target=more.pop("target", "/c"), id=id, **more)


def context(root: Path) -> tuple[LocalSource, dict[LocalSource, Path], Path]:
    """A directory as a context: its node, where it is, and its path."""
    (root / "d").mkdir(parents=True)
    (root / "a").write_text("A\n")
    (root / "d" / "b").write_text("B\n")
    (root / "out").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../../../../../../etc")
    node = LocalSource(context="")
    return node, {node: root}, root


@contextmanager
def echoing_agent(directory: Path) -> Iterator[Path]:
    """A socket that says back what it hears, after "agent:"."""
    path = directory / f"agent-{os.urandom(3).hex()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def echo(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"agent:")
            while data := connection.recv(1 << 16):
                connection.sendall(data)
            connection.sendall(b":end")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def main(directory: str, command: str) -> None:
    """A process that runs a command and can be killed: says "running" when that has said something."""
    from hooper.api.build_graph import BindMount, SecretMount

    async def heard(stream: int, data: bytes) -> None:
        print("running", flush=True)

    with opened(Path(directory)) as (portal, bench):
        cache = CacheMount(target="/cache", id="kept")
        mounts = (
            cache,
            BindMount(target="/b", source=bench.image(), read_only=False),
            SecretMount(id="s", target="/s"),
        )
        client = Client({"s": b"hidden"})
        try:
            # Under the parent that all containers have.
            request = BuildRequest(cgroup_parent="/hooper")
            portal.call(lambda: bench.run(command, *mounts, client=client, output=heard, request=request))
        except HooperError as error:
            print(error, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
