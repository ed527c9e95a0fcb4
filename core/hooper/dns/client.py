"""The daemon's side of the resolver."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

from hooper.api.errors import Internal, InvalidArgument, Unavailable
from hooper.dns import protocol as p

START_S = 20.0
ANSWER_S = 10.0
"""A resolver that has not answered by then hangs, and is ended."""
ATTEMPTS = 3

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(p.Report).decode


class ResolverClient:
    """Finds the resolver of this exec root, or starts it, when it is first asked for something.

    `known` tells which containers it may go on serving when a daemon finds it. `lost` is called when it has ended.
    """

    def __init__(self, exec_root: Path, log: Any, known: Callable[[], list[str]], lost: Callable[[], None]) -> None:
        self._exec_root, self._log, self._known, self._lost = exec_root, log, known, lost
        self._lock = asyncio.Lock()
        self._connection: _Connection | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    async def serve(self, served: p.Served, netns: int | None) -> bool:
        """Returns when names are answered there; the descriptor stays the caller's. False if there is none and the
        resolver does not know the container. Internal, Unavailable."""
        fds = [] if netns is None else [netns]
        done = await self._request(lambda number: p.Serve(number, served), fds)
        if done.error:
            raise Internal(
                "cannot answer names in the container",
                done.error,
                "The kernel needs nf_tables with the inet family and nft_nat.",
            )
        return not done.unknown

    async def drop(self, container_id: str) -> None:
        """Returns when nothing holds the container's network namespace for names any longer."""
        if self._connection is None or self._connection.closed:
            return
        try:
            await self._connection.request(lambda number: p.Drop(number, container_id))
        except Unavailable as error:
            self._log.warning("the resolver did not let a container go", container=container_id, error=str(error))

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    async def start(self) -> None:
        """It is there, and is told of what has gone. Unavailable."""
        await self._connected()

    async def find(self) -> None:
        """If it is there, it is told of what has gone. Unavailable."""
        async with self._lock:
            if not self.connected and (connection := await self._find()) is not None:
                await self._adopt(connection)

    def aclose(self) -> None:
        """Leaves it to itself."""
        if self._connection is not None:
            self._connection.lost = lambda: None
            self._connection.close()
        self._reap()

    async def _request(self, make: Callable[[int], p.Request], fds: Sequence[int]) -> p.Done:
        for attempt in range(ATTEMPTS):
            connection = await self._connected()
            try:
                return await connection.request(make, fds)
            except Unavailable:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("no attempt was made")

    async def _connected(self) -> _Connection:
        async with self._lock:
            if self._connection is None or self._connection.closed:
                self._reap()
                return await self._adopt(await self._find() or await self._start())
            return self._connection

    async def _adopt(self, connection: _Connection) -> _Connection:
        await connection.request(lambda number: p.Keep(number, self._known()))
        connection.lost = self._died
        self._connection = connection
        return connection

    def _reap(self) -> None:
        self._processes = [process for process in self._processes if process.poll() is None]

    async def _find(self) -> _Connection | None:
        sock = _connect(self._exec_root)
        if sock is None:
            return None
        pid, *_ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return await self._greeted(sock, pid)

    async def _start(self) -> _Connection:
        deadline = asyncio.get_running_loop().time() + START_S
        while asyncio.get_running_loop().time() < deadline:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = self._spawned(theirs.fileno())
            self._processes.append(process)
            # Another may have the lock still, which then ends or takes the connection.
            found = await self._greeted(ours, process.pid) or await self._find()
            if found is not None:
                return found
            await asyncio.sleep(0.1)
        raise Unavailable(
            "cannot start the resolver",
            f"`{sys.executable} -m hooper.dns.process` ends at once",
            f"See that {self._exec_root} can be written to, and who holds {self._exec_root / p.LOCK}.",
        )

    def _spawned(self, channel: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "hooper.dns.process", str(channel), str(self._exec_root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # It outlives the daemon: it must not hold the daemon's streams open.
            stderr=subprocess.DEVNULL,
            pass_fds=[channel],
            start_new_session=True,
        )

    async def _greeted(self, sock: socket.socket, pid: int) -> _Connection | None:
        connection = _Connection(sock, pid, self._log)
        try:
            await connection.request(lambda number: p.Hello(p.VERSION, number))
        except Unavailable:
            connection.close()
            return None
        return connection

    def _died(self) -> None:
        # It closes its sockets a moment before it can be waited for.
        asyncio.get_running_loop().call_later(1.0, self._reap)
        self._lost()


class _Connection:
    """Requests to the resolver with this pid, and answers; `lost` is called when either side ends it."""

    def __init__(self, sock: socket.socket, pid: int, log: Any) -> None:
        sock.setblocking(False)
        self._socket, self._pid, self._log = sock, pid, log
        self.lost: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[p.Done]] = {}
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Harmless when it is closed."""
        if self.closed:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_gone())
        self.lost()

    async def request(self, make: Callable[[int], p.Request], fds: Sequence[int] = ()) -> p.Done:
        """Unavailable if there is no answer."""
        if self.closed:
            raise _gone()
        number = next(self._numbers)
        data = _encode(make(number))
        if len(data) > p.MESSAGE_MAX:
            raise InvalidArgument("the container has too many names", remedy="Give it fewer aliases and links.")
        answer = self._waiting[number] = self._loop.create_future()
        try:
            with anyio.move_on_after(ANSWER_S):
                await self._send(data, fds)
                done: p.Done = await answer
                return done
            self._end()
            raise Unavailable("the resolver does not answer", f"it was asked {ANSWER_S:.0f} s ago")
        finally:
            del self._waiting[number]
            if answer.done() and not answer.cancelled():
                # Marks an error as seen.
                answer.exception()

    def _end(self) -> None:
        """The resolver hangs: it is killed, and another can take its place."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self.close()

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        while True:
            try:
                socket.send_fds(self._socket, [data], list(fds), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                await asyncio.sleep(0.005)
            except OSError:
                self.close()
                raise _gone() from None
            else:
                return

    def _readable(self) -> None:
        while not self.closed:
            try:
                data = self._socket.recv(p.MESSAGE_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self._take(_decode(data))

    def _take(self, report: p.Report) -> None:
        if isinstance(report, p.Trouble):
            self._log.warning("trouble in the resolver", error=report.text)
        elif (answer := self._waiting.get(report.number)) is not None and not answer.done():
            answer.set_result(report)


def _gone() -> Unavailable:
    return Unavailable("the resolver is gone", "its connection has ended")


def _connect(exec_root: Path) -> socket.socket | None:
    """A connection to the resolver that is there; None if there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        directory = os.open(exec_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{p.SOCKET}")
        finally:
            os.close(directory)
    except OSError:
        sock.close()
        return None
    return sock
