"""The standard streams of one process: from it to its log and its clients, from them to its stdin."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import Callable
from functools import partial

from hooper.api.isolation import Process, Stdio
from hooper.runtime.connection import Buffer, Connection
from hooper.runtime.detach import DetachKeys
from hooper.runtime.loop import READ, WRITE, Loop
from hooper.runtime.protocol import Attach

CHUNK = 256 * 1024
"""Bytes of one read. A client that does not keep up has at most one of these waiting for it, and the
process's pipe then fills up."""
FULL_PIPE = 64 * 1024
WIDE_PIPE = 1 << 20
AFTER_END = 4 << 20
"""What may wait for slow clients once the process has ended: more than its pipes can still hold."""

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}

Log = Callable[[str, bytes, int], None]

_buffer: memoryview | None = None


def _chunk_buffer() -> memoryview:
    """One for all streams of a monitor, made when a process first says something."""
    global _buffer
    if _buffer is None:
        _buffer = memoryview(bytearray(CHUNK))
    return _buffer


class Ends:
    """Both ends of a process's streams: the process's in `theirs`, until `Streams.opened` or `abandon`."""

    def __init__(self, theirs: Stdio, outputs: dict[int, int], stdin: int = -1) -> None:
        self.theirs, self.outputs, self.stdin = theirs, outputs, stdin

    @classmethod
    def open(cls, *, tty: bool, stdin: bool) -> Ends:
        """Pipes, and /dev/null for a stdin that nobody wants; with a tty nothing, for the backend makes that."""
        theirs = Stdio(terminal=tty)
        if tty:
            return cls(theirs, {})
        ours = -1
        if stdin:
            theirs.stdin, ours = _pipe()
            os.set_blocking(ours, False)
        else:
            theirs.stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        stdout, theirs.stdout = _pipe()
        stderr, theirs.stderr = _pipe()
        os.set_blocking(stdout, False)
        os.set_blocking(stderr, False)
        return cls(theirs, {STDOUT: stdout, STDERR: stderr}, ours)

    @classmethod
    def discard(cls, *, tty: bool) -> Ends:
        """As `open`, for a process that nobody listens to."""
        if tty:
            return cls(Stdio(terminal=True), {})
        null = [os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) for _ in range(3)]
        return cls(Stdio(null[0], null[1], null[2]), {})

    def close_theirs(self) -> None:
        for fd in (self.theirs.stdin, self.theirs.stdout, self.theirs.stderr):
            if fd is not None:
                os.close(fd)
        self.theirs = Stdio()


class Client:
    """What one connection is attached to."""

    def __init__(self, request: Attach, connection: Connection, *, tty: bool) -> None:
        self.connection = connection
        self.outputs = {STDOUT: request.stdout, STDERR: request.stderr and not tty}
        self.stdin = request.stdin
        self.keys = DetachKeys(request.detach_keys if tty else b"")


class Streams:
    """`on_drained` is called when the process's output has ended, `on_flushed` each time that the
    last client is gone, `on_detached` when one has typed its detach keys. Made, then `opened`, and at
    the end `ended` and `finish`."""

    def __init__(
        self,
        loop: Loop,
        ends: Ends,
        *,
        tty: bool,
        stdin: bool,
        stdin_once: bool,
        log: Log | None,
        on_drained: Callable[[], None],
        on_flushed: Callable[[], None],
        on_detached: Callable[[], None],
    ) -> None:
        self._loop, self.tty, self._wants_stdin, self._once, self._log = loop, tty, stdin, stdin_once, log
        self._ends = ends
        self._on_drained, self._on_flushed, self._on_detached = on_drained, on_flushed, on_detached
        self._clients: dict[Connection, Client] = {}
        self._outputs = ends.outputs
        self._paused: set[int] = set()
        self._limit = 1
        self._input = Input(loop, ends.stdin) if ends.stdin >= 0 else None
        self._console = -1
        self._wide: set[int] = set()
        self._finished = False

    def opened(self, process: Process) -> None:
        """The process exists: closes its ends, takes its console, and begins to read."""
        self._ends.close_theirs()
        if process.console is not None:
            self._console = process.console
            os.set_blocking(process.console, False)
            self._outputs[STDOUT] = os.dup(process.console)
            if self._wants_stdin:
                self._input = Input(self._loop, os.dup(process.console))
        for number, fd in self._outputs.items():
            self._loop.watch(fd, READ, partial(self._read, number))

    def abandon(self) -> None:
        """The process could not be made: closes everything."""
        self._ends.close_theirs()
        self._close_input()
        for number in list(self._outputs):
            self._end_output(number)

    def attach(self, request: Attach, sock: socket.socket) -> None:
        """Gives the connection what follows from now on."""
        connection = Connection(
            self._loop, sock, on_input=self._from_client, on_room=self._room, on_closed=self._client_closed
        )
        client = Client(request, connection, tty=self.tty)
        self._clients[connection] = client
        if request.follows_head:
            connection.hold_until_taken()
        if self._finished:
            connection.finish()
            return
        connection.read(client.stdin and self._input is not None)
        if request.received and client.stdin:
            self._from_client(connection, request.received)

    def resize(self, height: int, width: int) -> None:
        """Harmless without a tty."""
        if self._console >= 0:
            fcntl.ioctl(self._console, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def ended(self) -> None:
        """The process is gone: takes what its pipes still hold, then calls `on_drained`."""
        self._close_input()
        self._limit = AFTER_END
        self._room()
        if not self._outputs:
            self._on_drained()

    def cut(self) -> None:
        """Stops reading output that others hold open; `on_drained` is called."""
        for number in list(self._outputs):
            self._end_output(number)

    def finish(self) -> None:
        """Closes every client's connection when it has got everything."""
        self._finished = True
        if self._console >= 0:
            os.close(self._console)
            self._console = -1
        for connection in list(self._clients):
            connection.finish()
        if not self._clients:
            self._on_flushed()

    @property
    def pending(self) -> int:
        """Bytes that wait for clients."""
        return sum(connection.pending for connection in self._clients)

    @property
    def clients(self) -> int:
        """How many connections are open."""
        return len(self._clients)

    def _read(self, number: int, _: int) -> None:
        if any(c.connection.pending >= self._limit for c in self._clients.values() if c.outputs[number]):
            self._loop.unwatch(self._outputs[number])
            self._paused.add(number)
            return
        buffer = _chunk_buffer()
        try:
            size = os.readv(self._outputs[number], [buffer])
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            size = 0
        if size == 0:
            self._end_output(number)
            return
        if size >= FULL_PIPE and number not in self._wide:
            self._widen(number)
        self._distribute(number, buffer[:size])

    def _widen(self, number: int) -> None:
        self._wide.add(number)
        if not self.tty:
            try:
                fcntl.fcntl(self._outputs[number], fcntl.F_SETPIPE_SZ, WIDE_PIPE)
            except OSError:
                pass

    def _distribute(self, number: int, data: memoryview) -> None:
        if self._log is not None:
            self._log(_NAMES[number], bytes(data), time.time_ns())
        if not self._clients:
            return
        header = b"" if self.tty else struct.pack(">BxxxL", number, len(data))
        parts: list[Buffer] = [data] if self.tty else [header, data]
        for client in list(self._clients.values()):
            if client.outputs[number]:
                client.connection.send(parts, len(header) + len(data))

    def _end_output(self, number: int) -> None:
        fd = self._outputs.pop(number)
        self._paused.discard(number)
        self._loop.unwatch(fd)
        os.close(fd)
        if not self._outputs and self._limit == AFTER_END:
            self._on_drained()

    def _room(self) -> None:
        for number in list(self._paused):
            self._paused.discard(number)
            fd = self._outputs[number]
            self._loop.watch(fd, READ, partial(self._read, number))

    def _from_client(self, connection: Connection, data: bytes) -> None:
        client = self._clients[connection]
        if not data:
            self._client_stdin_ended(client)
            return
        data, detached = client.keys.feed(data)
        if data and self._input is not None and not self._input.write(data, connection):
            connection.stall()
        if detached:
            client.stdin = False
            connection.finish()
            self._on_detached()

    def _client_stdin_ended(self, client: Client) -> None:
        client.stdin = False
        if self._once and not self.tty and self._input is not None:
            self._input.close_when_written()
        if not any(client.outputs.values()):
            client.connection.finish()

    def _client_closed(self, connection: Connection) -> None:
        client = self._clients.pop(connection)
        if self._input is not None:
            self._input.forget(connection)
        if client.stdin:
            self._client_stdin_ended(client)
        self._room()
        if not self._clients and self._finished:
            self._on_flushed()

    def _close_input(self) -> None:
        if self._input is not None:
            self._input.close()


class Input:
    """The writing end of a process's stdin. Never blocks: what the pipe does not take waits, and the
    client that sent it is not read until it is written."""

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop, self._fd = loop, fd
        self._waiting = b""
        self._stalled: list[Connection] = []
        self._last = False

    def write(self, data: bytes, client: Connection) -> bool:
        """False: the client is to wait; it is asked to go on later. After the end data are dropped."""
        if self._fd < 0 or self._last:
            return True
        self._waiting += data
        self._ready(0)
        if not self._waiting:
            return True
        self._stalled.append(client)
        return False

    def forget(self, client: Connection) -> None:
        """The client is gone; what it sent is still written."""
        if client in self._stalled:
            self._stalled.remove(client)

    def close_when_written(self) -> None:
        """End of file for the process, after what waits."""
        self._last = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """End of file now."""
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._waiting = b""
        self._go_on()

    def _ready(self, _: int) -> None:
        try:
            self._waiting = self._waiting[os.write(self._fd, self._waiting) :]
        except BlockingIOError:
            pass
        except OSError:
            # EPIPE: the process closed its stdin. EIO: the terminal is gone.
            self.close()
            return
        if self._waiting:
            self._loop.watch(self._fd, WRITE, self._ready)
            return
        self._loop.unwatch(self._fd)
        if self._last:
            self.close()
        else:
            self._go_on()

    def _go_on(self) -> None:
        stalled, self._stalled = self._stalled, []
        for client in stalled:
            client.read(True)


def _pipe() -> tuple[int, int]:
    return os.pipe2(os.O_CLOEXEC)
