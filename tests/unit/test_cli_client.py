"""The client's own parts: addresses, frames, starting a daemon on demand."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from hooper.api.errors import InvalidArgument
from hooper.client.address import Address, parse_address
from hooper.client.autostart import connect
from hooper.client.errors import ConnectionFailed
from hooper.client.frames import Demultiplexer
from hooper.client.http import query_string, quote


@pytest.mark.parametrize(
    ("text", "path", "host", "port"),
    [
        ("unix:///run/x.sock", "/run/x.sock", "", 0),
        ("tcp://127.0.0.1:99", "", "127.0.0.1", 99),
        ("tcp://example", "", "example", 2375),
        ("http://[::1]:80/", "", "::1", 80),
    ],
)
def test_addresses(text: str, path: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.path, address.host, address.port) == (path, host, port)


@pytest.mark.parametrize(
    "text", ["", "/run/x.sock", "unix://relative", "ssh://", "ssh://-oX", "ssh://-x@h", "tcp://h:x", "tcp://h:99999"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid address"):
        parse_address(text)


def test_frames_in_any_pieces() -> None:
    stream = b"\1\0\0\0\0\0\0\3abc" + b"\2\0\0\0\0\0\0\0" + b"\2\0\0\0\0\0\0\2de"
    for step in (1, 2, 5, 9, len(stream)):
        frames, seen = Demultiplexer(), {1: b"", 2: b""}
        for at in range(0, len(stream), step):
            for number, piece in frames.feed(stream[at : at + step]):
                seen[number] += piece
        assert seen == {1: b"abc", 2: b"de"}


def test_queries_are_encoded() -> None:
    assert quote("a b/ü", safe="/") == "a%20b/%C3%BC"
    assert query_string({"a": True, "b": None, "c": ["x", "y&z"], "d": 3}) == "?a=1&c=x&c=y%26z&d=3"
    assert query_string({"a": None}) == ""


DAEMON = """#!{python}
import pathlib, socket, sys, time
assert sys.argv[1:] == ["-m", "hooper", "daemon"]
with open({count!r}, "a") as file:
    file.write("started\\n")
if {fails}:
    sys.exit("broken on purpose")
listener = socket.socket(socket.AF_UNIX)
listener.bind({path!r})
listener.listen()
listener.settimeout(20)
for _ in range(5):
    listener.accept()
"""


def daemon_program(directory: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool) -> Address:
    path = str(directory / "run" / "hooper.sock")
    program = directory / "daemon"
    count = str(directory / "count")
    program.write_text(DAEMON.format(python=sys.executable, count=count, path=path, fails=fails))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return Address(f"unix://{path}", path=path)


def test_clients_that_find_no_daemon_start_one_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = daemon_program(tmp_path, monkeypatch, fails=False)
    connections = []
    threads = [threading.Thread(target=lambda: connections.append(connect(address, start=True))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(connections) == 5
    assert (tmp_path / "count").read_text() == "started\n"
    for connection in connections:
        connection.close()


def test_a_daemon_that_does_not_come_up_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = daemon_program(tmp_path, monkeypatch, fails=True)
    with pytest.raises(ConnectionFailed, match="broken on purpose"):
        connect(address, start=True)


def test_no_daemon_is_started_for_an_address_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = daemon_program(tmp_path, monkeypatch, fails=False)
    with pytest.raises(ConnectionFailed, match="Is the daemon running"):
        connect(address, start=False)
    assert not (tmp_path / "count").exists()
