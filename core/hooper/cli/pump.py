"""Copies between the user's standard streams and a hijacked connection, both ways at once."""

from __future__ import annotations

import os
import select
import socket
import sys

from hooper.cli.terminal import STDERR, STDIN, STDOUT, DetachKeys
from hooper.client.api import Hijacked
from hooper.client.frames import Demultiplexer

_BUFFER = 1 << 18
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


class Pump:
    """One attached stream. `framed`: output comes in frames; `stdin`: what is typed is sent.

    Only streams in `outputs` (1 stdout, 2 stderr) are shown. With `keys`, they detach.
    """

    def __init__(
        self,
        stream: Hijacked,
        *,
        framed: bool,
        stdin: bool,
        outputs: frozenset[int] = frozenset((STDOUT, STDERR)),
        keys: bytes = b"",
    ) -> None:
        self._socket, self._ahead = stream.socket, stream.ahead
        self._frames = Demultiplexer() if framed else None
        self._stdin, self._outputs = stdin, outputs
        self._detach = DetachKeys(keys)
        self._pending = b""
        self.detached = False

    def run(self) -> bool:
        """Copies until the daemon ends the stream; True if the user detached instead. Closes the socket."""
        sys.stdout.flush()
        self._write(self._ahead)
        self._socket.setblocking(False)
        buffer = memoryview(bytearray(_BUFFER))
        try:
            while not self.detached and self._step(buffer):
                pass
        except ConnectionResetError:
            # A daemon that is killed takes the stream with it; what became of the container is asked elsewhere.
            pass
        finally:
            self._socket.close()
        return self.detached

    def _step(self, buffer: memoryview) -> bool:
        """Waits for something to do and does it; False at the end of the output."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._pending else 0))
        if self._stdin and not self._pending:
            poll.register(STDIN, select.POLLIN)
        for fd, events in poll.poll():
            if fd == STDIN:
                self._read_stdin()
                continue
            if events & select.POLLOUT:
                self._send()
            if events & _READABLE:
                count = self._socket.recv_into(buffer)
                if not count:
                    return False
                self._write(buffer[:count])
        return True

    def _write(self, data: bytes | memoryview) -> None:
        if self._frames is None:
            write_all(STDOUT, data)
            return
        for stream, piece in self._frames.feed(data):
            fd = stream if stream == STDERR else STDOUT
            if fd in self._outputs:
                write_all(fd, piece)

    def _read_stdin(self) -> None:
        data = os.read(STDIN, 65536)
        if not data:
            self._stdin = False
            self._half_close()
            return
        self._pending, self.detached = self._detach.feed(data)
        self._send()

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._pending)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # The process reads no more; its output may still come.
            self._stdin, self._pending = False, b""
            return
        self._pending = self._pending[sent:]

    def _half_close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            # The daemon closed its side first; its end of stream is about to be read.
            return


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Writes all of `data` to `fd`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
