"""Opens a container's log in its monitor: the driver's writer, with a readable copy and a buffer if it has them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping

import msgspec

from hooper.api.errors import HooperError, Internal, NotFound, from_wire, to_wire
from hooper.api.logs import LogDriver, LogTarget, LogWriter
from hooper.linux import syscalls
from hooper.runtime import wire

PIECE = 32 * 1024
"""Bytes of output in one message to a process that writes."""
LEAST_BUFFER = 4 * PIECE
CLOSE_S = 5
"""How long the end of a container waits for what is buffered."""
_STREAMS = {"stdout": b"\x01", "stderr": b"\x02"}
_NAMES = {1: "stdout", 2: "stderr"}
_SO_SNDBUFFORCE = 32

Drivers = Mapping[str, LogDriver]


def open_writer(drivers: Drivers, name: str, target: LogTarget) -> LogWriter:
    """Internal, as Docker says it, if it cannot be opened."""
    try:
        return Buffered(drivers, name, target) if target.buffer else _open(drivers, name, target)
    except (HooperError, OSError) as error:
        what, why = (error.what, error.why) if isinstance(error, HooperError) else (error.strerror or str(error), "")
        remedy = error.remedy if isinstance(error, HooperError) else ""
        raise Internal("failed to initialize logging driver", f"{what}: {why}" if why else what, remedy) from error


def _open(drivers: Drivers, name: str, target: LogTarget) -> LogWriter:
    driver = drivers.get(name)
    if driver is None:
        raise NotFound(
            f'log driver "{name}"', "the launcher has none of that name", f"There are: {', '.join(drivers)}."
        )
    writer = driver.writer(target)
    if not target.cache or target.cache not in drivers:
        return writer
    copied = msgspec.structs.replace(target, options=target.cache_options)
    return Copied(writer, drivers[target.cache].writer(copied))


class Copied(LogWriter):
    """Writes to a driver that cannot be read, and to one that can; the fault of one is not the other's."""

    def __init__(self, writer: LogWriter, copy: LogWriter) -> None:
        self._writer, self._copy = writer, copy

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogWriter."""
        try:
            self._copy.write(stream, data, time_ns)
        finally:
            self._writer.write(stream, data, time_ns)

    def close(self) -> None:
        """See LogWriter."""
        try:
            self._copy.close()
        finally:
            self._writer.close()


class Buffered(LogWriter):
    """The log mode non-blocking: a process of its own writes, whatever time that takes, and what it has not taken yet
    waits in the socket to it. What does not fit there is dropped.
    """

    def __init__(self, drivers: Drivers, name: str, target: LogTarget) -> None:
        ours, theirs = wire.pair()
        _set_buffer(ours, max(target.buffer, LEAST_BUFFER))
        pid = os.fork()
        if not pid:
            _become_writer(theirs, drivers, name, target)
        theirs.close()
        self._socket = ours
        answer = ours.recv(1 << 16)
        if answer != b"{}":
            ours.close()
            raise from_wire(msgspec.json.decode(answer)) if answer else Internal("the process of the log ended at once")

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogWriter; OSError when the buffer is full."""
        head = _STREAMS[stream] + time_ns.to_bytes(8, "little")
        for start in range(0, len(data), PIECE):
            self._socket.send(head + data[start : start + PIECE], socket.MSG_DONTWAIT)

    def close(self) -> None:
        """See LogWriter. A destination that hangs gets what is left later, or never."""
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.settimeout(CLOSE_S)
        try:
            answer = self._socket.recv(1 << 16)
        finally:
            self._socket.close()
        if answer:
            raise from_wire(msgspec.json.decode(answer))


def _set_buffer(sock: socket.socket, size: int) -> None:
    """The kernel doubles it, for its own needs."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def _become_writer(sock: socket.socket, drivers: Drivers, name: str, target: LogTarget) -> None:
    """Never returns. Holds nothing open of the monitor's: the ends of the container's pipes are among it."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        wire.name_process("hooper-log")
        own = os.dup2(sock.fileno(), 3)
        syscalls.close_range(4)
        _serve(socket.socket(fileno=own), drivers, name, target)
    finally:
        os._exit(0)


def _serve(sock: socket.socket, drivers: Drivers, name: str, target: LogTarget) -> None:
    """Answers {} when the log is open, or else the error; then writes; at the end tells what was lost."""
    try:
        writer = _open(drivers, name, target)
    except Exception as error:
        sock.send(msgspec.json.encode(to_wire(error)))
        return
    sock.send(b"{}")
    lost, cause = 0, ""
    while message := sock.recv(2 * PIECE):
        try:
            writer.write(_NAMES[message[0]], message[9:], int.from_bytes(message[1:9], "little"))
        except OSError as error:
            lost, cause = lost + len(message) - 9, str(error)
    try:
        writer.close()
    except OSError as error:
        cause = str(error)
    if cause:
        sock.send(msgspec.json.encode(to_wire(Internal(f"{lost} bytes of output could not be logged", cause))))
