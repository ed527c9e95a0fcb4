"""Where the daemon is: unix:///path or tcp://host:port."""

from __future__ import annotations

import os
import socket

from hooper.api.errors import InvalidArgument
from hooper.client.errors import denied, unreachable

DEFAULT_PORT = 2375


class Address:
    """A parsed address. `path` is set for a unix socket, `host` and `port` for TCP."""

    def __init__(self, text: str, *, path: str = "", host: str = "", port: int = 0) -> None:
        self.text, self.path, self.host, self.port = text, path, host, port

    def __str__(self) -> str:
        return self.text

    @property
    def http_host(self) -> str:
        """The value of the Host header."""
        return f"{self.host}:{self.port}" if self.host else "hooper"

    def connect(self, timeout: float | None = None) -> socket.socket:
        """A connected stream socket, blocking; the caller closes it.

        ConnectionFailed tells a refusal from a missing permission. `timeout` (seconds) holds for connecting alone.
        """
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
        return connection


def parse_address(text: str) -> Address:
    """Reads unix:///path, tcp://host[:port] or http://host[:port]; InvalidArgument for anything else."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix" and rest.startswith("/"):
        return Address(text, path=rest)
    if separator and scheme in ("tcp", "http") and rest.strip("/"):
        host, port = _split_port(text, rest.rstrip("/"))
        return Address(text, host=host, port=port)
    raise InvalidArgument(
        f'invalid address "{text}" of the daemon',
        "it is neither unix:///PATH nor tcp://HOST[:PORT]",
        "For example: unix:///run/hooper/hooper.sock or tcp://127.0.0.1:2375.",
    )


def _split_port(text: str, rest: str) -> tuple[str, int]:
    head, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        return rest.strip("[]"), DEFAULT_PORT
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
