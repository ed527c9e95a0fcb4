"""The resolver: a process of its own, so that names are answered whatever becomes of the daemon.

    python -m hooper.dns.process FD EXEC_ROOT

FD is its end of the pair with the daemon that started it; later daemons connect to `protocol.SOCKET` in EXEC_ROOT. It
ends when it serves nobody and no daemon has been connected or asked for anything for `IDLE_S`, and at once if another
resolver has the lock.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from hooper.dns import protocol as p
from hooper.dns.forwarding import Forwarder, HostServers
from hooper.dns.orphans import Orphans
from hooper.dns.serving import Clients
from hooper.runtime.loop import READ, Loop

IDLE_S = 60.0
_decode = msgspec.msgpack.Decoder(p.Request).decode
_encode = msgspec.msgpack.Encoder().encode


class Resolver:
    """`listener` is where daemons connect; the last one that did is the one that is heard."""

    def __init__(self, listener: socket.socket) -> None:
        self.loop = Loop(self._report)
        self.clients = Clients(self.loop, Forwarder(self.loop, HostServers()))
        self._orphans = Orphans(self.loop, self.clients, self._rest)
        self._daemon: socket.socket | None = None
        self._idle = 0
        self._listener = listener
        self.loop.watch(listener.fileno(), READ, self._connected)

    def _report(self, error: BaseException) -> None:
        self._say(p.Trouble(f"{type(error).__name__}: {error}"))

    def _say(self, message: p.Report) -> None:
        if self._daemon is not None:
            with suppress(OSError):
                self._daemon.send(_encode(message), socket.MSG_NOSIGNAL)

    def _connected(self, _: int) -> None:
        connection, _address = self._listener.accept()
        self.adopt(connection)

    def adopt(self, connection: socket.socket) -> None:
        """Listens to this daemon from now on."""
        self._lose()
        connection.setblocking(False)
        self._daemon = connection
        self._orphans.found()
        self.loop.watch(connection.fileno(), READ, self._heard)
        self._rest()

    def _lose(self) -> None:
        if self._daemon is not None:
            self.loop.unwatch(self._daemon.fileno())
            self._daemon.close()
            self._daemon = None

    def _rest(self) -> None:
        """Ends, now or later, if there is nothing to do."""
        self.loop.cancel(self._idle)
        if len(self.clients.table):
            return
        if self._daemon is None:
            self.loop.stop()
        else:
            self._idle = self.loop.call_later(IDLE_S, self.loop.stop)

    def _heard(self, _: int) -> None:
        if self._daemon is None:
            return
        fds: list[int] = []
        try:
            data, fds, _flags, _address = socket.recv_fds(self._daemon, p.MESSAGE_MAX, 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            if not data:
                self._lose()
                self._orphans.lost()
                self._rest()
            else:
                self._handle(_decode(data), fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _handle(self, request: p.Request, fds: list[int]) -> None:
        if isinstance(request, p.Hello):
            if request.version != p.VERSION:
                # Its daemon starts one that it understands, which needs the lock.
                self.loop.stop()
                return
            self._say(p.Done(request.number))
            return
        done = p.Done(request.number)
        try:
            if isinstance(request, p.Serve):
                done.unknown = not self.clients.serve(request.served, fds.pop() if fds else None)
            elif isinstance(request, p.Drop):
                self.clients.drop(request.id)
            else:
                for container_id in self.clients.table:
                    if container_id not in request.ids:
                        self.clients.drop(container_id)
        except OSError as error:
            done.error = error.strerror or str(error)
        self._say(done)
        self._rest()


def claim(exec_root: str) -> socket.socket | None:
    """The listening socket of the one resolver of this exec root; None if another process is that already."""
    directory = os.open(exec_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    lock = os.open(p.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    with suppress(FileNotFoundError):
        os.unlink(p.SOCKET, dir_fd=directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        # Through the descriptor: the path itself may be longer than sun_path takes.
        listener.bind(f"/proc/self/fd/{directory}/{p.SOCKET}")
    finally:
        os.umask(mask)
        os.close(directory)
    listener.listen(8)
    # The lock's descriptor stays open, and with it the lock held, as long as the process lives.
    return listener


def main(arguments: Sequence[str]) -> None:
    """The process."""
    with open("/proc/self/comm", "w") as name:
        name.write("hooper-resolver")
    connection = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(connection.fileno(), False)
    listener = claim(arguments[1])
    if listener is None:
        return
    os.chdir("/")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The daemon's terminal and its service manager's farewell to the daemon are no concern of this process.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resolver = Resolver(listener)
    resolver.adopt(connection)
    gc.collect()
    gc.freeze()
    resolver.loop.run()
    # For the next daemon: nobody is there to be asked. The lock is held still.
    with suppress(OSError):
        os.unlink(os.path.join(arguments[1], p.SOCKET))


if __name__ == "__main__":
    main(sys.argv[1:])
