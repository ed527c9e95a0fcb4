"""An engine in memory, and the front-end serving it on a unix socket in a thread."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread

from hooper.api.build_events import Planned, PlannedStep, StepDone, StepOutput, StepStarted
from hooper.api.build_graph import Origin
from hooper.api.build_session import BuildSession
from hooper.api.builder import BuildWarning
from hooper.api.engine import (
    BuildContext,
    BuildOutcome,
    CachedStep,
    Change,
    Created,
    Deleted,
    DiskUsage,
    Engine,
    PathStat,
    Pruned,
    SubnetStatus,
    WaitResult,
)
from hooper.api.errors import Conflict, InvalidArgument, NotFound, NotModified, StartFailed
from hooper.api.frontend import Listener
from hooper.api.isolation import Stats
from hooper.api.logs import LogEntry
from hooper.api.model import (
    Container,
    ContainerState,
    EndpointSettings,
    Event,
    Exec,
    History,
    Image,
    ImageConfig,
    ImageSummary,
    PortMapping,
    RootFS,
    Volume,
)
from hooper.api.network import Endpoint, Network, Pool
from hooper.linux import unread
from hooper_api_docker.frontend import DockerFrontend
from support import until

IMAGE_ID = "sha256:" + "1" * 64


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, dict[str, Any]]] = []

    def error(self, message: str, **values: Any) -> None:
        self.errors.append((message, values))


class FakeContainers:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.stored: dict[str, Container] = {}
        self.execs: dict[str, Exec] = {}
        self.requests: list[Any] = []
        self.finished: dict[str, anyio.Event] = {}
        self.cancelled = threading.Event()
        self.written: list[tuple[str, bytes]] = []

    def find(self, name: str) -> Container:
        for container in self.stored.values():
            if container.name == name.removeprefix("/") or container.id.startswith(name):
                return container
        raise NotFound(f"No such container: {name}")

    async def create(self, request: Any) -> Created:
        self.requests.append(request)
        if request.config.image != "busybox":
            raise NotFound(f"No such image: {request.config.image}")
        identifier = f"{len(self.stored) + 0xC0FFEE:064x}"
        name = request.name or f"fake{len(self.stored)}"
        if any(c.name == name for c in self.stored.values()):
            raise Conflict(f"cannot create container {name}", "the name is in use", "Remove the other container.")
        self.stored[identifier] = Container(
            id=identifier, name=name, created="2026-01-02T03:04:05.5Z", config=request.config,
            host_config=request.host_config, image_id=IMAGE_ID, path="sleep", args=["1"],
            networks={"bridge": EndpointSettings(ip_address="172.17.0.2", gateway="172.17.0.1")},
            ports={"80/tcp": [PortMapping(host_ip="0.0.0.0", host_port="8080")], "90/udp": None}, driver="overlay",
        )  # fmt: skip
        self.finished[identifier] = anyio.Event()
        return Created(identifier)

    async def start(self, name: str, *, detach_keys: str = "") -> None:
        container = self.find(name)
        if container.state.running:
            raise NotModified(f"container {name} runs")
        container.state = ContainerState(status="running", pid=os.getpid(), started_at="2026-01-02T03:04:06Z")
        if container.config.cmd == ["exit"]:
            await self.kill(name)

    async def kill(self, name: str, signal: str = "SIGKILL") -> None:
        container = self.find(name)
        container.state = ContainerState(status="exited", exit_code=7, finished_at="2026-01-02T03:04:07Z")
        self.finished[container.id].set()

    async def list(self, *, all: bool = False, limit: int = 0, filters: Any = None) -> list[Container]:
        self.engine.filters.append(filters)
        return [c for c in self.stored.values() if all or c.state.running]

    async def get(self, name: str) -> Container:
        return self.find(name)

    async def wait(self, name: str, condition: str = "not-running") -> Any:
        container = self.find(name)

        async def result() -> WaitResult:
            try:
                await self.finished[container.id].wait()
            except anyio.get_cancelled_exc_class():
                self.cancelled.set()
                raise
            return WaitResult(7)

        return result()

    async def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        container = self.find(name)
        if container.state.running and not force:
            raise Conflict(f"cannot remove container {name}", "it is running", "Stop it, or use force.")
        del self.stored[container.id]

    def _echo(self, connection: socket.socket, received: bytes, framed: bool, stdin: bool = True) -> None:
        """A container that writes in upper case what it reads, and "end" when its input ends."""

        def write(text: bytes) -> None:
            connection.sendall(bytes((1, 0, 0, 0)) + len(text).to_bytes(4, "big") + text if framed else text)

        def run() -> None:
            connection.setblocking(True)
            with connection, suppress(OSError):
                until(lambda: not unread.is_unread(connection))
                if received:
                    write(received.upper())
                while stdin and (data := connection.recv(4096)):
                    write(data.upper())
                write(b"end")

        threading.Thread(target=run, daemon=True).start()

    def attaching(self, name: str) -> nullcontext[None]:
        return nullcontext()

    async def attach(self, name: str, options: Any, connection: socket.socket, received: bytes) -> None:
        self.requests.append(options)
        self._echo(connection, received, not self.find(name).config.tty, options.stdin)

    async def resize(self, name: str, height: int, width: int) -> None:
        self.requests.append((height, width))

    async def logs(self, name: str, query: Any) -> AsyncIterator[list[LogEntry]]:
        self.requests.append(query)

        async def batches() -> AsyncIterator[list[LogEntry]]:
            yield [LogEntry("stdout", b"one\n", 1_700_000_000_000_000_001), LogEntry("stderr", b"two\n", 0)]
            yield [LogEntry("stdout", b"three\n", 2)]

        return batches()

    async def size(self, name: str) -> int:
        return 3

    async def stats(self, name: str) -> Stats:
        return Stats(cpu_usage=5, memory_usage=10, memory_limit=100, pids=1, block_io=[(8, 0, "read", 512)])

    async def top(self, name: str, ps_args: str) -> Any:
        return ["PID", "CMD"], [["1", f"sleep {ps_args}"]]

    async def changes(self, name: str) -> list[Change]:
        return [Change("/a", 1)]

    async def export(self, name: str, output: int) -> None:
        await anyio.to_thread.run_sync(os.write, output, b"tar of " + name.encode())

    async def stat_path(self, name: str, path: str) -> PathStat:
        if path != "/etc/passwd":
            raise NotFound(f"Could not find the file {path} in container {name}")
        return PathStat("passwd", 12, 0o644, "2026-01-02T03:04:05Z", "")

    async def get_archive(self, name: str, path: str, output: int) -> None:
        await self.export(path, output)

    async def put_archive(self, name: str, path: str, archive: int, **options: Any) -> None:
        if path == "/refused":
            raise NotFound(f"Could not find the file {path} in container {name}")
        self.written.append((path, await self.engine.read_all(archive)))

    async def exec_create(self, name: str, request: Any) -> str:
        container = self.find(name)
        if not container.state.running:
            raise Conflict(f"Container {name} is not running")
        identifier = f"{len(self.execs) + 1:064x}"
        self.execs[identifier] = Exec(
            id=identifier,
            container_id=container.id,
            args=request.cmd,
            tty=request.tty,
            attach_stdin=request.attach_stdin,
        )
        return identifier

    async def exec_start(self, exec_id: str, connection: socket.socket | None, received: bytes, **options: Any) -> None:
        found = self.execs[exec_id]
        if found.args == ["nosuch"]:
            found.exit_code = 127
            raise StartFailed("exec", 'exec: "nosuch": executable file not found in $PATH', "", 127)
        found.exit_code = 0
        if connection:
            self._echo(connection, received, not found.tty, found.attach_stdin)

    async def exec_get(self, exec_id: str) -> Exec:
        if exec_id not in self.execs:
            raise NotFound(f"No such exec instance: {exec_id}")
        return self.execs[exec_id]

    async def exec_ids(self, name: str) -> list[str]:
        return [e.id for e in self.execs.values() if e.container_id == self.find(name).id and e.running]

    async def prune(self, filters: Any) -> Pruned:
        raise RuntimeError("a fault in the engine")


class FakeImages:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.loaded: list[bytes] = []

    async def list(self, *, all: bool = False, filters: Any = None) -> list[ImageSummary]:
        self.engine.filters.append(filters)
        return [self.engine.image]

    async def get(self, name: str) -> ImageSummary:
        if name.removesuffix(":latest") not in ("busybox", "host:5000/a/b", IMAGE_ID, IMAGE_ID[7:19]):
            raise NotFound(f"No such image: {name}")
        return self.engine.image

    async def layer_sizes(self, image: ImageSummary) -> list[int]:
        return [1000]

    async def pull(self, reference: str, progress: Any, **options: Any) -> str:
        self.engine.pulls.append((reference, options))
        if "nosuch" in reference:
            raise NotFound(f"manifest for {reference} not found")
        await progress({"status": "Pulling", "id": "latest"})
        if "broken" in reference:
            raise NotFound("layer lost", "the registry has it no more")
        await progress({"status": "Downloading", "id": "abc", "progressDetail": {"current": 1, "total": 2}})
        return IMAGE_ID

    async def remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[Deleted]:
        return [Deleted(untagged=name), Deleted(deleted=IMAGE_ID)]

    async def save(self, names: Any, output: int) -> None:
        if "nosuch" in names:
            raise NotFound("No such image: nosuch")
        data = memoryview(self.engine.archive)
        while data:
            data = data[await anyio.to_thread.run_sync(os.write, output, data) :]

    async def load(self, archive: int, progress: Any) -> list[str]:
        self.loaded.append(await self.engine.read_all(archive))
        return ["busybox:latest"]


class FakeNetworks:
    network = Network(id="ab" * 32, name="bridge", driver="bridge", created=1.5, pools=[Pool("10.0.0.0/8", "10.0.0.1")])

    async def list(self, filters: Any = None) -> list[Network]:
        return [self.network]

    async def get(self, name: str) -> Network:
        return self.network

    async def status(self, network: Network) -> dict[str, SubnetStatus]:
        return {pool.subnet: SubnetStatus(4, 250) for pool in network.pools}

    async def endpoints(self, network: Network) -> list[Endpoint]:
        return [Endpoint(id="e", network_id=network.id, container_id="c", container_name="n", address="10.0.0.2/8")]

    async def create(self, network: Network) -> tuple[Network, list[str]]:
        self.made = network
        network.id = "cd" * 32
        return network, []


class FakeVolumes:
    async def create(self, volume: Volume) -> Volume:
        volume.name = volume.name or "anonymous"
        return volume

    async def list(self, filters: Any = None) -> list[Volume]:
        return [Volume(name="v")]

    async def users(self, name: str) -> int:
        return 1


class FakeContext(BuildContext):
    def __init__(self, content: bytes) -> None:
        self.content, self.files, self.size, self.sent = content, 1, len(content), len(content)


class FakeBuilds:
    """Tells `script`, or does what `work` does; a build of the target "endless" ends by being cancelled."""

    script: Sequence[Any] = (
        Planned(steps=(PlannedStep(shown="FROM scratch", stage="0"), PlannedStep(shown="RUN make", stage="0"))),
        StepDone(step=0, at=1, result="sha256:" + "a" * 64),
        StepStarted(step=1, at=1),
        StepOutput(step=1, stream=1, data=b"made\n", at=1),
        StepDone(step=1, at=2, result="sha256:" + "b" * 64),
    )

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.requests: list[Any] = []
        self.prunes: list[Any] = []
        self.urls: list[str] = []
        self.context = b""
        self.work: Callable[[Any, Any, Any], Awaitable[None]] | None = None
        self.began, self.cancelled = threading.Event(), threading.Event()

    @asynccontextmanager
    async def context_of_archive(self, archive: int) -> AsyncIterator[FakeContext]:
        async with anyio.create_task_group():
            content = await self.engine.read_all(archive)
            if content == b"broken":
                raise InvalidArgument("cannot read the context", "it is no tar")
            yield FakeContext(content)

    @asynccontextmanager
    async def context_of_session(self, session: BuildSession) -> AsyncIterator[FakeContext]:
        with await session.open("context", "") as stream:
            content = b""
            while part := await anyio.to_thread.run_sync(_receive, stream):
                content += part
        yield FakeContext(content)

    @asynccontextmanager
    async def context_of_url(self, url: str) -> AsyncIterator[FakeContext]:
        self.urls.append(url)
        yield FakeContext(url.encode())

    async def build(self, request: Any, progress: Any, context: FakeContext, session: Any) -> BuildOutcome:
        self.requests.append(request)
        self.context = context.content
        if request.target == "endless":
            await self._endless(progress)
        if self.work:
            await self.work(request, progress, session)
        else:
            for event in self.script:
                await progress.event(event)
        return BuildOutcome(IMAGE_ID)

    async def _endless(self, progress: Any) -> None:
        await progress.event(Planned(steps=(PlannedStep(shown="RUN sleep inf", stage="0"),)))
        await progress.event(StepStarted(step=0, at=1))
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled.set()

    async def check(self, request: Any, context: Any, session: Any) -> list[BuildWarning]:
        return [BuildWarning(rule="StageNameCasing", message="write it small", origin=Origin("Dockerfile", 2, 2))]

    async def prune(self, filters: Any, **options: Any) -> Pruned:
        self.prunes.append((filters, options))
        return Pruned(["k1"], 7)


def _receive(stream: socket.socket) -> bytes:
    stream.setblocking(True)
    return stream.recv(65536)


class FakeEvents:
    def __init__(self) -> None:
        self.ended = threading.Event()

    remembered = (
        Event("container", "start", "c1", 10**18, {"image": "busybox", "name": "one"}),
        Event("network", "connect", "n1", 10**18 + 1, {"name": "bridge"}),
    )

    @asynccontextmanager
    async def subscribe(self, since_ns: int = 0) -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            for event in self.remembered if since_ns else ():
                yield event
            try:
                await anyio.sleep_forever()
            finally:
                self.ended.set()

        yield events()


class FakeSystem:
    async def info(self) -> dict[str, Any]:
        return {"Driver": "overlay", "Images": 1, "ServerVersion": "9.9"}

    async def version(self) -> dict[str, str]:
        return {"Version": "9.9", "Os": "linux", "Arch": "amd64"}

    async def disk_usage(self, kinds: Collection[str] = ()) -> DiskUsage:
        step = CachedStep(
            key="k2", description="RUN make", size=3, shared=False, created="2026-01-02T03:04:05Z", last_used=0,
            type="exec.cachemount", in_use=True, usage_count=4, parents=("k1", "k0"),
        )  # fmt: skip
        return DiskUsage(layers=5, steps=[step])

    async def plugins(self) -> list[dict[str, Any]]:
        return [{"kind": "storage", "name": "overlay", "status": "active"}]


class FakeEngine(Engine):
    def __init__(self) -> None:
        self.filters: list[Any] = []
        self.pulls: list[Any] = []
        self.archive = b"x" * 3_000_000
        config = ImageConfig(cmd=["sh"], env=["PATH=/bin"])
        self.image = ImageSummary(
            id=IMAGE_ID, tags=["busybox:latest"], created=1.0, size=1000,
            image=Image(architecture="amd64", os="linux", config=config, rootfs=RootFS(["sha256:" + "2" * 64]),
                        history=[History(created_by="base"), History(created_by="env", empty_layer=True)]),
        )  # fmt: skip
        self.containers: Any = FakeContainers(self)
        self.images: Any = FakeImages(self)
        self.networks: Any = FakeNetworks()
        self.volumes: Any = FakeVolumes()
        self.builds: Any = FakeBuilds(self)
        self.events: Any = FakeEvents()
        self.system: Any = FakeSystem()

    async def read_all(self, descriptor: int) -> bytes:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return await anyio.to_thread.run_sync(file.read)


class Context:
    def __init__(self) -> None:
        self.log = Log()


class Served:
    """A front-end that serves at `path`."""

    def __init__(self, path: Path, engine: FakeEngine, context: Context) -> None:
        self.path, self.engine, self.context = path, engine, context
        self.url = f"unix://{path}"

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(str(self.path))
        return sock

    def raw(self, data: bytes) -> bytes:
        """Sends and reads until the server closes; the request should ask for that."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_to_end(sock)

    def request(self, method: str, target: str, body: Any = None, headers: Any = None) -> Any:
        """Status, headers and body, by the standard library's client."""
        import http.client
        import json

        connection = http.client.HTTPConnection("hooper")
        connection.sock = self.connect()
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.headers.get("Content-Type") == "application/json" and data and data.count(b"\n") < 1:
            data = json.loads(data)
        return answer.status, answer.headers, data


def read_to_end(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


@contextmanager
def served(directory: Path) -> Iterator[Served]:
    """Serves a new FakeEngine on a socket in `directory`."""
    path, context = directory / "sub" / "hooper.sock", Context()
    with anyio.from_thread.start_blocking_portal() as portal:
        engine = FakeEngine()
        frontend = DockerFrontend(context, engine)  # type: ignore[arg-type]
        future, _ = portal.start_task(_serve, frontend, Listener(f"unix://{path}"))
        try:
            yield Served(path, engine, context)
        finally:
            future.cancel()


async def _serve(frontend: DockerFrontend, listener: Listener, *, task_status: Any) -> None:
    await frontend.serve([listener], task_status=task_status)
