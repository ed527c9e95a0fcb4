"""Where the daemon is: unix:///path, tcp://host:port or ssh://[user@]host[:port][/path]."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from hooper.api.errors import InvalidArgument
from hooper.client.errors import denied, unreachable

DEFAULT_PORT, TLS_PORT = 2375, 2376


class Tls(NamedTuple):
    """How to speak TLS: PEM files (empty for none) and whether the daemon's certificate is checked."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True


class Address:
    """A parsed address. `path` is set for a unix socket, `host` and `port` for TCP and ssh.

    With ssh, `user` may be empty, `port` 0 and `path` that of a socket of the other host. `tls` is for TCP.
    """

    def __init__(
        self,
        text: str,
        *,
        path: str = "",
        host: str = "",
        port: int = 0,
        user: str = "",
        ssh: bool = False,
        tls: Tls | None = None,
    ) -> None:
        self.text, self.path, self.host, self.port = text, path, host, port
        self.user, self.ssh, self.tls = user, ssh, tls

    def __str__(self) -> str:
        return self.text

    @property
    def local(self) -> bool:
        """Whether it is a socket of this host."""
        return bool(self.path) and not self.ssh

    @property
    def http_host(self) -> str:
        """The value of the Host header."""
        return f"{self.host}:{self.port}" if self.host and not self.ssh else "hooper"

    def connect(self, timeout: float | None = None) -> socket.socket:
        """A connected stream socket, blocking; the caller closes it.

        ConnectionFailed tells a refusal from a missing permission. `timeout` (seconds) holds for connecting alone.
        """
        if self.ssh:
            from hooper.client.tunnel import by_ssh

            return by_ssh(self.user, self.host, self.port, self.path)
        family = socket.AF_UNIX if self.path else socket.AF_INET
        try:
            if family == socket.AF_INET:
                connection = socket.create_connection((self.host, self.port), timeout)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                connection = socket.socket(family, socket.SOCK_STREAM)
                connection.settimeout(timeout)
                connection.connect(self.path)
        except PermissionError:
            raise denied(self.text) from None
        except OSError as error:
            raise unreachable(self.text, error.strerror or str(error)) from error
        connection.settimeout(None)
        if self.tls is None:
            return connection
        from hooper.client.tunnel import inside_tls

        return inside_tls(connection, self.host, self.tls)


def parse_address(text: str, tls: Tls | None = None) -> Address:
    """Reads unix:///path, tcp://host[:port], http://host[:port], https:// alike, and ssh://[user@]host[:port][/path].

    InvalidArgument for anything else. `tls`: TCP goes inside it.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix" and rest.startswith("/"):
        return Address(text, path=rest)
    if separator and scheme == "ssh" and (address := _parse_ssh(text, rest)):
        return address
    if separator and scheme in ("tcp", "http", "https") and rest.strip("/"):
        tls = tls or (Tls() if scheme == "https" else None)
        host, port = _split_port(text, rest.rstrip("/"), TLS_PORT if tls else DEFAULT_PORT)
        return Address(text, host=host, port=port, tls=tls)
    raise InvalidArgument(
        f'invalid address "{text}" of the daemon',
        "it is neither unix:///PATH nor tcp://HOST[:PORT] nor ssh://[USER@]HOST[:PORT]",
        "For example: unix:///run/hooper/hooper.sock, tcp://127.0.0.1:2375 or ssh://me@example.",
    )


def _parse_ssh(text: str, rest: str) -> Address | None:
    """None if there is no host, or one that ssh would take for an option."""
    head, slash, path = rest.partition("/")
    user, _, place = head.rpartition("@")
    host, port = _split_port(text, place, 0)
    if not host or host.startswith("-") or ":" in user or user.startswith("-"):
        return None
    return Address(text, host=host, port=port, user=user, path=slash + path if path else "", ssh=True)


def _split_port(text: str, rest: str, default: int) -> tuple[str, int]:
    head, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        return rest.strip("[]"), default
    if not port.isdigit() or int(port) > 65535:
        raise InvalidArgument(f'invalid address "{text}" of the daemon', f'"{port}" is not a port (0 to 65535)')
    return head.strip("[]"), int(port)


def default_address() -> Address:
    """Where the daemon of this host listens: the first of its configured `daemon.hosts`."""
    if os.geteuid() == 0 and not _configured():
        return parse_address("unix:///run/hooper/hooper.sock")  # what the configuration says, without reading it
    from hooper.config import load

    return parse_address(load()["daemon.hosts"][0])


def _configured() -> bool:
    return os.path.isdir("/etc/hooper") or any(name.startswith("HOOPER_DAEMON_") for name in os.environ)
