"""Ways to run the command line: on a pseudo-terminal, as people do, and within the test, which is quick."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

import pytest

from hooper.cli.main import run

_ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[()=>].?)")


class InProcess:
    """Runs hooper's command line for an engine without starting an interpreter each time."""

    def __init__(self, address: str, capture: pytest.CaptureFixture[str]) -> None:
        self._address, self._capture = address, capture

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        self._capture.readouterr()
        code = run(["-H", self._address, *words])
        output = self._capture.readouterr()
        assert not (check and code), (words, code, output.err)
        return subprocess.CompletedProcess(words, code, output.out, output.err)


class Terminal:
    """A program that runs on a pseudo-terminal of `rows` by `columns`."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        rows: int = 24,
        columns: int = 100,
    ) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self._size(0, rows, columns)
            os.execvpe(command[0], list(command), dict(os.environ if environment is None else environment))
        self.seen = b""

    @staticmethod
    def _size(fd: int, rows: int, columns: int) -> None:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        """Another size; the program in the foreground is told by SIGWINCH."""
        self._size(self.fd, rows, columns)

    @property
    def text(self) -> str:
        """What was seen, without colours and moves of the cursor."""
        return _ESCAPE.sub(b"", self.seen).decode(errors="replace")

    def expect(self, text: bytes, seconds: float = 30) -> None:
        """Reads until `text` was seen."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, (text, self.seen)
            if select.select([self.fd], [], [], 0.5)[0]:
                self.seen += self._read()

    def _read(self) -> bytes:
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        assert data, f"the program ended after {self.seen!r}"
        return data

    def expect_raw(self, seconds: float = 30) -> None:
        """Waits until the program takes every key as it is."""
        deadline = time.monotonic() + seconds
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.01)

    def forget(self) -> None:
        """Forgets what was seen so far."""
        self.seen = b""

    def type(self, keys: bytes) -> None:
        """Types `keys`."""
        os.write(self.fd, keys)

    def wait(self) -> int:
        """Reads to the end; the exit code."""
        try:
            while data := os.read(self.fd, 4096):
                self.seen += data
        except OSError:
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code

    def kill(self) -> None:
        """Ends the program, however it is."""
        os.kill(self.pid, 9)
        self.wait()
