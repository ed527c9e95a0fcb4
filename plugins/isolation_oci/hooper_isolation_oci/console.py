"""Receiving the master of a pty from a runtime program (--console-socket)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hooper.api import oci
from hooper.api.errors import Internal
from hooper.linux import pty


class ConsoleSocket:
    """A socket that the program sends the master to. Its path is short, however deep the directory lies."""

    def __init__(self, directory: Path, name: str) -> None:
        self._file = directory / name
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self._directory}/{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._file.unlink(missing_ok=True)
        self._socket.bind(self.path)
        self._socket.listen(1)
        self._socket.setblocking(False)

    def receive(self, size: oci.ConsoleSize | None) -> int:
        """The master, once the program has ended; it is given the window size."""
        try:
            connection, _ = self._socket.accept()
            with connection:
                connection.setblocking(False)
                fd: int = socket.recv_fds(connection, 4096, 1)[1][0]
        except (OSError, IndexError) as error:
            raise Internal("receiving a container's terminal", "the runtime program did not send it") from error
        os.set_inheritable(fd, False)
        if size:
            pty.set_size(fd, size.height, size.width)
        return fd

    def close(self) -> None:
        self._socket.close()
        os.close(self._directory)
        self._file.unlink(missing_ok=True)
