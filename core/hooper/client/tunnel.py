"""Connections that are more than a socket: by way of ssh, and inside TLS.

Either is handed out as one end of a socket pair, so that everything else reads, writes, polls and
half-closes a plain socket.
"""

from __future__ import annotations

import os
import select
import socket
import threading

from hooper.api.errors import InvalidArgument
from hooper.client.address import Tls
from hooper.client.errors import unreachable

_BLOCK = 1 << 16


def by_ssh(user: str, host: str, port: int, path: str) -> socket.socket:
    """A stream to the daemon of another host, by `ssh HOST hooper system dial-stdio`.

    `path` is the daemon's socket over there, empty for the default. ssh must not need to ask for a password.
    ConnectionFailed if there is no ssh.
    """
    import subprocess

    command = ["ssh", "-o", "ConnectTimeout=30", "-T"]
    command += [*(["-l", user] if user else []), *(["-p", str(port)] if port else []), "--", host, "hooper"]
    command += [*(["-H", f"unix://{path}"] if path else []), "system", "dial-stdio"]
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            # A session of its own: Ctrl-C is for the container, not for ssh.
            subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True)
        except OSError as error:
            ours.close()
            raise unreachable(f"ssh://{host}", f"cannot run ssh: {error.strerror}") from error
    return ours


def inside_tls(connection: socket.socket, host: str, tls: Tls) -> socket.socket:
    """A plain socket whose bytes go through `connection`, which this takes over, inside TLS.

    ConnectionFailed if the handshake fails, InvalidArgument if a file cannot be used.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key or None)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(file for file in (tls.ca, tls.certificate, tls.key) if file)
        raise InvalidArgument(f"cannot use the TLS files {named}", error.strerror or str(error)) from error
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=host)
    channel = _Channel(connection, session, incoming, outgoing)
    try:
        channel.handshake()
    except OSError as error:
        connection.close()
        raise unreachable(f"tcp://{host}", f"TLS: {error.strerror or error}") from error
    ours, theirs = socket.socketpair()
    threading.Thread(target=channel.pump, args=(theirs,), daemon=True).start()
    return ours


class _Channel:
    """A TLS session over a socket, step by step: `session` is an ssl.SSLObject on two memory buffers."""

    def __init__(self, connection: socket.socket, session: object, incoming: object, outgoing: object) -> None:
        import ssl

        assert isinstance(session, ssl.SSLObject)
        assert isinstance(incoming, ssl.MemoryBIO) and isinstance(outgoing, ssl.MemoryBIO)
        self._connection, self._session = connection, session
        self._incoming, self._outgoing = incoming, outgoing

    def handshake(self) -> None:
        """Until both sides agree; OSError (ssl.SSLError is one)."""
        import ssl

        while True:
            try:
                self._session.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return

    def pump(self, plain: socket.socket) -> None:
        """Copies between `plain` and the session until either ends; closes both sockets."""
        with plain, self._connection:
            try:
                self._copy(plain)
            except OSError:
                # The other end of `plain` sees the end of the stream, which is all that can be told.
                return

    def _copy(self, plain: socket.socket) -> None:
        poll = select.poll()
        poll.register(plain, select.POLLIN)
        poll.register(self._connection, select.POLLIN)
        if not self._deliver(plain):
            return
        while True:
            for fd, _ in poll.poll():
                if fd == plain.fileno():
                    if data := plain.recv(_BLOCK):
                        self._session.write(data)
                    else:
                        poll.unregister(plain)
                        self._say_goodbye()
                    self._flush()
                else:
                    self._fill()
                    if not self._deliver(plain):
                        return

    def _deliver(self, plain: socket.socket) -> bool:
        """Passes on what can be read; False at the end of the stream."""
        import ssl

        while True:
            try:
                data = self._session.read(_BLOCK)
            except ssl.SSLWantReadError:
                return True
            except ssl.SSLZeroReturnError:
                return False
            if not data:
                return False
            plain.sendall(data)

    def _say_goodbye(self) -> None:
        """Ends our direction alone; the daemon may have more to say."""
        import ssl

        try:
            self._session.unwrap()
        except ssl.SSLWantReadError:
            return

    def _fill(self) -> None:
        data = self._connection.recv(_BLOCK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._connection.sendall(data)


def dial_stdio(connection: socket.socket, stdin: int = 0, stdout: int = 1) -> None:
    """Copies stdin to the daemon and the daemon to stdout until the daemon ends; takes over `connection`."""
    poll = select.poll()
    poll.register(stdin, select.POLLIN | select.POLLHUP)
    poll.register(connection, select.POLLIN)
    with connection:
        while True:
            for fd, _ in poll.poll():
                if fd == stdin:
                    if data := os.read(stdin, _BLOCK):
                        connection.sendall(data)
                    else:
                        poll.unregister(stdin)
                        connection.shutdown(socket.SHUT_WR)
                    continue
                data = connection.recv(_BLOCK)
                if not data:
                    return
                view = memoryview(data)
                while view:
                    view = view[os.write(stdout, view) :]
