"""The daemon's side of launcher and monitors."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec

from hooper.api import oci
from hooper.api.driver import HostInfo
from hooper.api.errors import HooperError, Unavailable, from_wire
from hooper.api.isolation import Stats
from hooper.runtime import protocol as p
from hooper.runtime import wire
from hooper.runtime.channel import Channel

DriverSettings = tuple[str, str, Any]
"""Name, "module:Class", settings (a Struct or None)."""

START_S = 30.0
HELLO_S = 5.0
ABORT_S = 10.0
_EXPECTED_S = 0.9 * p.EXPECTED_S  # the monitor's clock may be a little ahead

Answer = TypeVar("Answer", bound=p.Message)

_decoder = wire.decoder(p.FromMonitor)


class Launcher:
    """The fork server, as a child of the daemon. It is started again when it has died."""

    def __init__(
        self,
        backends: Sequence[DriverSettings],
        log_drivers: Sequence[DriverSettings],
        host: HostInfo,
        log: Any,
        log_driver: str = "",
        usual_netns: p.NewNetns | None = None,
    ) -> None:
        config = p.LauncherConfig(
            backends=[_reference(*driver) for driver in backends],
            log_drivers=[_reference(*driver) for driver in log_drivers],
            log_driver=log_driver,
            host=host,
            usual_netns=usual_netns or p.NewNetns(),
        )
        self._config, self._log = wire.to_json(config), log
        self._lock = asyncio.Lock()
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0 if there is none."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Returns when it has imported what it needs. Unavailable if it cannot."""
        async with self._lock:
            if self._channel is None or self._channel.closed:
                await self._start()

    async def spawn(self, spawn: p.Spawn, fds: Sequence[int] = ()) -> MonitorClient:
        """Forks a monitor. `fds` are Spawn's after the first; the caller still closes its own.

        Unavailable if there is no launcher and none can be started.
        """
        ours, theirs = wire.pair()
        try:
            await self._send(wire.encode(spawn), [theirs.fileno(), *fds])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return MonitorClient(ours, spawned=True)

    async def call(self, call: p.Call, fds: Sequence[int]) -> None:
        """Forks a worker, which answers on the pair whose other end is the first of `fds`."""
        await self._send(wire.encode(call), fds)

    async def aclose(self) -> None:
        """Ends the launcher; monitors go on. Harmless if there is none."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.close()
        process, self._process = self._process, None
        if process is not None:
            await anyio.to_thread.run_sync(_end, process)

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        for _ in range(2):
            await self.start()
            if self._channel is not None:
                try:
                    await self._channel.send(data, fds)
                except (BrokenPipeError, ConnectionError):
                    self._channel.close()
                else:
                    return
        raise Unavailable("cannot start a container", "the launcher ends as soon as it is asked for something")

    async def _start(self) -> None:
        if self._process is not None:
            if self._log is not None:
                self._log.warning("launcher died, starting another", status=self._process.poll())
            await self.aclose()
        ours, theirs = wire.pair()
        with theirs:
            self._process = self._fork(theirs.fileno())
        ready: asyncio.Future[p.Message] = asyncio.get_running_loop().create_future()

        def heard(data: bytes, fds: list[int]) -> None:
            wire.close_all(fds)
            if not ready.done():
                ready.set_result(_decoder.decode(data))

        def ended() -> None:
            if not ready.done():
                ready.set_result(p.Failed(error={"kind": "unavailable", "what": "the launcher ended at once"}))

        self._channel = Channel(ours, heard, ended)
        # If it has ended already, what follows says so.
        with suppress(OSError):
            await self._channel.send(self._config)
        await self._ready(ready)

    def _fork(self, channel: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "hooper.runtime.launcher", str(channel)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[channel],
            start_new_session=True,
        )

    async def _ready(self, ready: asyncio.Future[p.Message]) -> None:
        answer: p.Message | None = None
        with anyio.move_on_after(START_S):
            answer = await ready
        if isinstance(answer, p.Done):
            return
        await self.aclose()
        why = f"it said nothing for {START_S:.0f} s" if answer is None else "it ended"
        if isinstance(answer, p.Failed):
            why = str(from_wire(answer.error))
        raise Unavailable("cannot start the launcher", why, "Its own messages are in the daemon's log.")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reference(name: str, factory: str, settings: Any) -> p.DriverReference:
    if settings is None:
        return p.DriverReference(name=name, factory=factory)
    kind = type(settings)
    return p.DriverReference(
        name=name,
        factory=factory,
        config_type=f"{kind.__module__}:{kind.__qualname__}",
        config=msgspec.Raw(wire.to_json(settings)),
    )


class _Expectation:
    """Whether the monitor expects an exec: see `protocol.EXPECTED_S`."""

    def __init__(self) -> None:
        self._until = 0.0
        self._is_ready = False

    def is_news(self) -> bool:
        """It has to be told; that it is, is noted."""
        now = time.monotonic()
        if self._is_ready and now < self._until:
            return False
        self._until = now + _EXPECTED_S
        return True

    def met(self) -> None:
        """An exec is started: what was ready is used up."""
        self._is_ready = False

    def renewed(self) -> None:
        """An exec has ended: the monitor goes on expecting, if it did."""
        now = time.monotonic()
        if now < self._until:
            self._until, self._is_ready = now + _EXPECTED_S, True


class MonitorClient:
    """One container's monitor. All methods raise Unavailable if it is gone, and what it answers.

    Callbacks run on the event loop, after whatever was awaited by the time; what came before a callback
    was set is given to it then.
    """

    def __init__(self, sock: socket.socket, *, spawned: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._answers: dict[int, asyncio.Future[tuple[p.Message, list[int]]]] = {}
        self._ids = 0
        self._spawned = spawned
        self._started = not spawned
        self._sandbox: asyncio.Future[int] = loop.create_future()
        self._sandbox_taken = False
        self._created: asyncio.Future[int] = loop.create_future()
        self._failure: HooperError | None = None
        """Why the container could not be made, once that is known; whatever is asked afterwards is answered so."""
        self._exited: p.Exited | None = None
        self._released = False
        self._exec_expectation = _Expectation()
        self._on_exit: Callable[[p.Exited], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._on_exec_exit: Callable[[p.ExecExited], None] | None = None
        self._on_detached: Callable[[str], None] | None = None
        self._exec_exits: deque[p.ExecExited] = deque()
        self.closed = anyio.Event()
        """Set when the connection has ended, whatever the reason."""
        self._channel = Channel(sock, self._heard, self._ended)

    @classmethod
    async def connect(cls, directory: Path) -> tuple[MonitorClient, p.Status]:
        """The monitor of the bundle `directory`. OSError if there is none that answers."""
        sock = _connected(directory)
        client = cls(sock)
        try:
            with anyio.fail_after(HELLO_S):
                status = await client._request(p.Hello(id=client._next()), p.Status)
        except HooperError as error:
            client._channel.close()
            raise ConnectionResetError(str(error)) from error
        except BaseException:
            client._channel.close()
            raise
        return client, status

    # --- after spawn ---

    async def sandbox(self) -> int:
        """The new network namespace's descriptor, which is the caller's from now on. Once."""
        await asyncio.shield(self._sandbox)
        if self._sandbox_taken:
            raise self._failure or _gone()  # the end of the monitor was heard right after it, and it is closed
        self._sandbox_taken = True
        return self._sandbox.result()

    async def created(self) -> int:
        """The pid of the first process, which waits for `start`; or why it could not be made."""
        return await asyncio.shield(self._created)

    async def start(self, fds: Sequence[int] = ()) -> p.Started:
        """Lets the program run once all is made. `fds` are kept open for the container's life.

        Raises what `created` does; StartFailed too means that the monitor goes away and leaves nothing.
        """
        started = await self._request(p.Start(id=self._next()), p.Started, fds)
        self._started = True
        return started

    # --- requests ---

    async def attach(self, request: p.Attach, connection: int) -> None:
        """Gives a connection to the streams; the caller still closes its own descriptor."""
        try:
            await self._channel.send(wire.encode(request), [connection])
        except OSError as error:
            raise _gone() from error

    def expect_exec(self) -> None:
        """`exec` will probably be called within moments, and is quicker then."""
        if not self._exec_expectation.is_news():
            return
        try:
            self._channel.send_now(wire.encode(p.ExpectExec()))
        except OSError:
            pass  # `exec` will tell

    async def exec(
        self,
        exec_id: str,
        process: oci.Process,
        attach: p.Attach | None = None,
        connection: int | None = None,
        *,
        stdin: bool = False,
    ) -> int:
        """Runs one more process and returns its pid. StartFailed as for a container."""
        request = p.StartExec(id=self._next(), exec_id=exec_id, process=process, attach=attach, stdin=stdin)
        self._exec_expectation.met()
        return (await self._request(request, p.Started, [] if connection is None else [connection])).pid

    async def signal(self, number: int, exec_id: str = "") -> None:
        """No error if the process has ended."""
        await self._request(p.Signal(id=self._next(), signal=number, exec_id=exec_id), p.Done)

    async def resize(self, height: int, width: int, exec_id: str = "") -> None:
        """Of its terminal. Conflict if it does not run."""
        await self._request(p.Resize(id=self._next(), height=height, width=width, exec_id=exec_id), p.Done)

    async def pause(self) -> None:
        """Freezes the container."""
        await self._request(p.Pause(id=self._next()), p.Done)

    async def resume(self) -> None:
        """Thaws it."""
        await self._request(p.Resume(id=self._next()), p.Done)

    async def update(self, resources: oci.Resources) -> None:
        """Applies the limits that are set."""
        await self._request(p.Update(id=self._next(), resources=resources), p.Done)

    async def stats(self) -> Stats:
        """What the container uses now."""
        return (await self._request(p.GetStats(id=self._next()), p.StatsAnswer)).stats

    async def processes(self) -> list[int]:
        """The pids of all its processes, as the host numbers them."""
        return (await self._request(p.GetProcesses(id=self._next()), p.ProcessesAnswer)).pids

    async def get_sandbox(self) -> int:
        """A descriptor of its network namespace, the caller's. NotFound if it has none of its own."""
        _, fds = await self._exchange(p.GetSandbox(id=self._next()))
        return fds[0]

    async def hold(self, name: str, fds: Sequence[int]) -> None:
        """Keeps copies of descriptors open until `unhold`, or for the container's life."""
        await self._request(p.Hold(id=self._next(), name=name), p.Done, fds)

    async def unhold(self, name: str) -> None:
        """Closes what is held under the name."""
        await self._request(p.Unhold(id=self._next(), name=name), p.Done)

    def release(self) -> None:
        """The exit is recorded: the monitor may go. Closes the connection."""
        self._released = True
        try:
            self._channel.send_now(wire.encode(p.Release()))
        except OSError:
            # Gone already, or full; the closing says the same.
            pass
        self._channel.close()

    async def aclose(self) -> None:
        """Closes the connection. A container that is not known to have started is removed; returns when it is."""
        self._released = True
        if not self._started and not self._channel.closed:
            with anyio.move_on_after(ABORT_S), suppress(OSError):
                # It may run by now: whoever cancelled `start` has not heard.
                await self._channel.send(wire.encode(p.Abort()))
                await self.closed.wait()
        self._channel.close()
        self._drop_sandbox()

    # --- events ---

    def on_exit(self, callback: Callable[[p.Exited], None]) -> None:
        """The container has ended."""
        self._on_exit = callback
        if self._exited is not None:
            self._loop.call_soon(callback, self._exited)

    def on_exec_exit(self, callback: Callable[[p.ExecExited], None]) -> None:
        """An exec has ended."""
        self._on_exec_exit = callback
        self._loop.call_soon(self._tell_exec_exits)

    def on_detached(self, callback: Callable[[str], None]) -> None:
        """A client has typed its detach keys; called with the id of the exec that it was attached to, or ""."""
        self._on_detached = callback

    def on_lost(self, callback: Callable[[], None]) -> None:
        """The connection has ended without an exit being told and without `release` or `aclose`."""
        self._on_lost = callback
        if self.closed.is_set():
            self._loop.call_soon(self._tell_lost)

    def _tell_exec_exits(self) -> None:
        while self._exec_exits and self._on_exec_exit is not None:
            self._on_exec_exit(self._exec_exits.popleft())

    def _tell_exit(self) -> None:
        if self._on_exit is not None and self._exited is not None:
            self._on_exit(self._exited)

    def _tell_lost(self) -> None:
        if self._on_lost is not None and self._exited is None and not self._released:
            self._on_lost()

    # --- wire ---

    def _next(self) -> int:
        self._ids += 1
        return self._ids

    async def _request(self, message: Any, kind: type[Answer], fds: Sequence[int] = ()) -> Answer:
        answer, received = await self._exchange(message, fds)
        wire.close_all(received)
        if not isinstance(answer, kind):
            raise Unavailable("a monitor", f"it answered {type(answer).__name__} to {type(message).__name__}")
        return answer

    async def _exchange(self, message: Any, fds: Sequence[int] = ()) -> tuple[p.Message, list[int]]:
        if self._failure is not None:
            raise self._failure
        answer: asyncio.Future[tuple[p.Message, list[int]]] = self._loop.create_future()
        self._answers[message.id] = answer
        try:
            await self._channel.send(wire.encode(message), fds)
            return await answer
        except asyncio.CancelledError:
            # The answer may have come at the same moment.
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                wire.close_all(answer.result()[1])
            raise
        except OSError as error:
            # What it said last may not have been read yet.
            with anyio.move_on_after(HELLO_S):
                await self.closed.wait()
            raise self._failure or _gone() from error
        finally:
            self._answers.pop(message.id, None)

    def _heard(self, data: bytes, fds: list[int]) -> None:
        message: Any = _decoder.decode(data)
        if isinstance(message, p.Exited):
            self._exited = message
            self._loop.call_soon(self._tell_exit)
        elif isinstance(message, p.ExecExited):
            self._exec_exits.append(message)
            self._exec_expectation.renewed()
            self._loop.call_soon(self._tell_exec_exits)
        elif isinstance(message, p.Created):
            _settle(self._created, message.pid)
        elif isinstance(message, p.Detached):
            if self._on_detached is not None:
                self._loop.call_soon(self._on_detached, message.exec_id)
        elif message.id == 0 and isinstance(message, p.Sandbox) and not self._sandbox.done():
            self._sandbox.set_result(fds[0])
            return
        elif message.id == 0 and isinstance(message, p.Failed):
            self._fail_creation(from_wire(message.error))
        else:
            self._answered(message, fds)
            return
        wire.close_all(fds)

    def _answered(self, message: Any, fds: list[int]) -> None:
        answer = self._answers.get(message.id)
        if answer is None or answer.done():
            wire.close_all(fds)
        elif isinstance(message, p.Failed):
            wire.close_all(fds)
            answer.set_exception(from_wire(message.error))
        else:
            answer.set_result((message, fds))

    def _fail_creation(self, error: HooperError) -> None:
        self._failure = self._failure or error
        waiting: list[asyncio.Future[Any]] = [self._sandbox, self._created, *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                # Marks it as seen: not everybody asks for all.
                future.exception()

    def _drop_sandbox(self) -> None:
        """Closes the descriptor that nobody has taken so far."""
        if self._sandbox.done() and self._sandbox.exception() is None and not self._sandbox_taken:
            self._sandbox_taken = True
            os.close(self._sandbox.result())

    def _ended(self) -> None:
        self._fail_creation(_gone())
        self._drop_sandbox()
        self.closed.set()
        self._loop.call_soon(self._tell_lost)


def _settle(future: asyncio.Future[int], value: int) -> None:
    if not future.done():
        future.set_result(value)


def _gone() -> Unavailable:
    return Unavailable("the container's monitor is gone", "its connection has ended", "Look at the container's state.")


def _connected(directory: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Through the descriptor: the path itself may be longer than sun_path takes.
            sock.connect(f"/proc/self/fd/{parent}/{p.MONITOR_SOCKET}")
        finally:
            os.close(parent)
    except BaseException:
        sock.close()
        raise
    return sock


def read_exit(directory: Path) -> p.Exited | None:
    """What a monitor left in the bundle `directory` when its container ended; None if it left nothing."""
    try:
        data = (directory / p.EXIT_FILE).read_bytes()
    except FileNotFoundError:
        return None
    exited: p.Exited = wire.from_json(data, p.Exited)
    return exited
