"""A client's connection in a monitor: nothing follows the head of its stream before it has read that."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from hooper.linux import unread
from hooper.runtime.connection import Connection
from hooper.runtime.loop import Loop

HEAD = b"HTTP/1.1 101 UPGRADED\r\n\r\n"


class Pair:
    """A connection whose client has not read the head yet."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loop = Loop(self.errors.append)
        ours, self.client = socket.socketpair()
        self.client.settimeout(10)
        self.closed: list[Connection] = []
        self.connection = Connection(
            self.loop, ours, on_input=lambda *_: None, on_room=lambda: None, on_closed=self.closed.append
        )
        ours.sendall(HEAD)
        assert unread.is_unread(ours)
        self.connection.hold_until_taken()

    def run(self) -> None:
        """Until all that is held may have been sent."""
        self.loop.call_later(2 * sum(unread.PAUSES), self.loop.stop)
        self.loop.run()
        assert not self.errors


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.connection.close()
    made.client.close()


def test_output_follows_when_the_head_was_read(pair: Pair) -> None:
    pair.connection.send([b"a", b"bc"], 3)
    assert pair.connection.pending == 3
    assert pair.client.recv(100) == HEAD
    pair.connection.send([b"d"], 1)
    assert select.select([pair.client], [], [], 0)[0] == []
    pair.run()
    assert pair.client.recv(100) == b"abcd" and pair.connection.pending == 0
    pair.connection.send([b"e"], 1)
    assert pair.client.recv(100) == b"e"


def test_the_end_follows_too(pair: Pair) -> None:
    pair.connection.send([b"a"], 1)
    pair.connection.finish()
    assert not pair.closed and pair.client.recv(100) == HEAD
    pair.run()
    assert pair.closed == [pair.connection]
    assert pair.client.recv(100) == b"a" and pair.client.recv(100) == b""


def test_an_end_without_output(pair: Pair) -> None:
    pair.connection.finish()
    assert not pair.closed
    pair.run()
    assert pair.closed and pair.client.recv(100) == HEAD and pair.client.recv(100) == b""


def test_a_client_that_does_not_read_holds_nothing_up(pair: Pair) -> None:
    pair.connection.send([b"a"], 1)
    pair.run()
    assert pair.client.recv(100) == HEAD + b"a"


def test_a_client_that_goes_away(pair: Pair) -> None:
    pair.connection.send([b"a"], 1)
    pair.client.close()
    pair.run()
    assert pair.closed == [pair.connection]


def test_of_a_client_on_another_host_it_is_not_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.sendall(HEAD)
        assert not unread.is_unread(client)
