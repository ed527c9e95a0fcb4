"""Registry servers of hooper's own, as processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

import support


def htpasswd(**users: str) -> str:
    """The text of a file of users: their passwords by name."""
    lines = [f"{user}:{bcrypt.hashpw(word.encode(), bcrypt.gensalt(4)).decode()}\n" for user, word in users.items()]
    return "".join(lines)


@dataclass
class RegistryServer:
    """`hooper registry serve` on a directory and a port that stay the same when it is started again."""

    directory: Path
    arguments: list[str] = field(default_factory=list)
    port: int = field(default_factory=support.free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "hooper", "registry", "serve", "--listen", self.host]
        command += ["--directory", str(self.directory / "data"), *self.arguments]
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        support.until(self._listens, what=f"the registry at {self.host}")

    def _listens(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        self.process.wait(20)

    def blobs(self) -> list[str]:
        """Hex digits of the digests of all files."""
        return sorted(path.name for path in (self.directory / "data/blobs").glob("*/*/*"))

    def uploads(self) -> list[Path]:
        return [path for path in (self.directory / "data/uploads").iterdir() if path.suffix != ".of"]


@contextlib.contextmanager
def registry_server(directory: Path, *arguments: str) -> Iterator[RegistryServer]:
    server = RegistryServer(directory, list(arguments))
    server.start()
    try:
        yield server
    finally:
        server.stop()
