"""The connection to a syslog server. It is made again when it breaks, and never waited for long."""

from __future__ import annotations

import os
import socket
from typing import Any

from hooper.api.errors import Unavailable
from hooper.api.log_writing import Patience
from hooper_log_syslog.options import TLS, Options

OPEN_S = 5.0
"""How long the first connection may take, before the container is started."""
AGAIN_S = 1.0
"""The same later, and for sending: the container's output stands still meanwhile."""
LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")


class Connection:
    """`send` takes whole messages. Made connected; Unavailable or OSError if that fails."""

    def __init__(self, options: Options) -> None:
        self._options, self._patience = options, Patience()
        self._addresses: list[tuple[Any, ...]] = []
        self._socket: socket.socket | None = self._open(OPEN_S)

    def send(self, messages: list[bytes]) -> None:
        """OSError if the server is away: nothing of it, or only a part, has arrived."""
        if self._socket is None and not self._patience.may_try:
            raise OSError("the syslog server is away")
        try:
            self._send_again(messages)
        except Exception as error:
            self.close()
            self._patience.failed()
            raise OSError(f"cannot send to the syslog server: {error}") from error
        self._patience.worked()

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def _send_again(self, messages: list[bytes]) -> None:
        if self._socket is not None:
            try:
                self._send(self._socket, messages)
                return
            except TimeoutError:
                raise
            except OSError:
                # A server that was started anew has closed the connection, which shows only now.
                self.close()
        self._socket = self._open(AGAIN_S)
        self._send(self._socket, messages)

    def _send(self, sock: socket.socket, messages: list[bytes]) -> None:
        """What went off in a datagram is gone from `messages`."""
        if sock.type == socket.SOCK_STREAM:
            sock.sendall(b"".join(messages))
            return
        while messages:
            sock.send(messages[0])
            del messages[0]

    def _open(self, seconds: float) -> socket.socket:
        transport = self._options.transport
        if transport == "":
            sock = _local(seconds)
        elif transport in ("unix", "unixgram"):
            kind = socket.SOCK_STREAM if transport == "unix" else socket.SOCK_DGRAM
            sock = _connected(socket.AF_UNIX, kind, self._options.path, seconds)
        else:
            sock = self._remote(seconds)
        sock.settimeout(AGAIN_S)
        return sock

    def _remote(self, seconds: float) -> socket.socket:
        options = self._options
        kind = socket.SOCK_DGRAM if options.transport == "udp" else socket.SOCK_STREAM
        failure: OSError | None = None
        # Looked up once: a name server that does not answer would hold the container up.
        self._addresses = self._addresses or _resolved(options, kind)
        for family, _, _, _, address in self._addresses:
            try:
                sock = _connected(family, kind, address, seconds)
                return _secured(sock, options) if options.transport == TLS else sock
            except OSError as error:
                failure = error
        raise Unavailable(
            f"cannot reach the syslog server {options.transport}://{options.host}:{options.port}",
            failure.strerror or str(failure) if failure else "its name has no address",
            "Check the log option syslog-address, and that the server runs.",
        )  # fmt: skip


def _resolved(options: Options, kind: int) -> list[tuple[Any, ...]]:
    # As bytes: text would have Python load its codec for international names.
    return list(socket.getaddrinfo(options.host.encode(), options.port, type=kind))


def _connected(family: int, kind: int, address: Any, seconds: float) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _local(seconds: float) -> socket.socket:
    for path in LOCAL:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            if os.path.exists(path):
                try:
                    return _connected(socket.AF_UNIX, kind, path, seconds)
                except OSError:
                    continue
    raise Unavailable(
        "Unix syslog delivery error", f"no syslog server listens at {', '.join(LOCAL)}",
        "Start one, or name another with the log option syslog-address.",
    )  # fmt: skip


def _secured(sock: socket.socket, options: Options) -> socket.socket:
    # Only here: it is large, and hardly anybody's log goes this way.
    import ssl

    try:
        context = ssl.create_default_context(cafile=options.ca or None)
        if not options.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if options.certificate or options.key:
            context.load_cert_chain(options.certificate, options.key or None)
        return context.wrap_socket(sock, server_hostname=options.host)
    except BaseException:
        sock.close()
        raise
