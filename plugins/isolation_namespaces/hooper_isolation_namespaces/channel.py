"""What a process and the one that it forked for a container, or for an exec, say to each other.

    child                     parent
      | ------- ready --------> |   all is set up (with the master of its pty)
      | <------ go ------------ |   execute
      | ------- failed -------> |   an error ends it at any point
      | ------- (closed) -----> |   close-on-exec: the program runs

A user namespace adds a dialogue before that: `pid`, the number that the monitor knows the process by.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hooper.api.errors import HooperError, Internal, StartFailed, from_wire, to_wire

_MAX = 1 << 16
_MAX_FDS = 3
MAX_PAYLOAD = _MAX - 1
GO, READY, FAILED, MAP, PID, TELL = b"g", b"r", b"f", b"m", b"p", b"t"
_error_decoder = msgspec.msgpack.Decoder(dict[str, str | int])


class Answer(NamedTuple):
    kind: bytes
    """READY, MAP, PID, TELL, or empty: the other end is closed."""
    payload: bytes = b""
    fds: Sequence[int] = ()

    @property
    def fd(self) -> int | None:
        return self.fds[0] if self.fds else None


class Channel:
    """One end of a pair of sockets that keep messages apart."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        return self._end.fileno()

    def set_patience(self, seconds: float) -> None:
        """How long this end waits for a message."""
        self._end.settimeout(seconds)

    def close(self) -> None:
        self._end.close()

    def send(self, kind: bytes, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Sends a message; a receiver that is gone is found out by who waits for its answer."""
        self.try_send(kind, payload, fds)

    def try_send(self, kind: bytes, payload: bytes = b"", fds: Sequence[int] = ()) -> bool:
        """Sends a message; False if the receiver is gone."""
        try:
            if fds:
                socket.send_fds(self._end, [kind + payload], list(fds))
            else:
                self._end.send(kind + payload)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def ready(self, console: int | None) -> None:
        """In the child: all is set up; returns when the monitor says go, and ends the process if it is gone."""
        self.send(READY, fds=() if console is None else (console,))
        self.wait_for_go()

    def fail(self, error: HooperError) -> None:
        """In the child: tells the monitor why this process ends."""
        self.send(FAILED, msgspec.msgpack.encode(to_wire(error)))

    def receive(self) -> Answer:
        """The next message; an error that the other end reports is raised here. TimeoutError: see `set_patience`."""
        try:
            message, fds, _, _ = socket.recv_fds(self._end, _MAX, _MAX_FDS)
        except ConnectionResetError:
            message, fds = b"", []
        for fd in fds:
            os.set_inheritable(fd, False)
        if message[:1] == FAILED:
            raise from_wire(_error_decoder.decode(message[1:]))
        return Answer(message[:1], message[1:], fds)

    def has_message(self) -> bool:
        """`receive` would return at once."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(0))

    def expect(self, kind: bytes) -> Answer:
        """The next message, which must be of that kind; Internal if the process died without a word."""
        answer = self.receive()
        if answer.kind != kind:
            raise Internal("unable to start container process", "it was killed while it was set up")
        return answer

    def wait_for_go(self) -> None:
        """In the child: blocks until the monitor says go, and ends the process if the monitor is gone."""
        if os.read(self._end.fileno(), 1) != GO:
            os._exit(1)


def explained(error: BaseException) -> HooperError:
    """What a process says of anything that ends it before its program runs."""
    if isinstance(error, HooperError):
        return error
    if isinstance(error, OSError):
        return StartFailed("unable to start container process", describe(error))
    return Internal("unable to start container process", repr(error))


def describe(error: OSError) -> str:
    """An error of the kernel with its path, in lower case as Go's are."""
    text = (error.strerror or str(error)).lower()
    name = error.filename.decode("utf-8", "replace") if isinstance(error.filename, bytes) else error.filename
    notes = ": ".join(getattr(error, "__notes__", ()))
    return ": ".join(part for part in (notes, str(name) if name else "", text) if part)


def failure(what: str, error: OSError) -> HooperError:
    """A StartFailed that says which step of the set-up failed."""
    return StartFailed("unable to start container process", f"error during container init: {what}: {describe(error)}")
