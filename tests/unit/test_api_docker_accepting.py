"""Connections that come to a listening socket of the front-end."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from hooper_api_docker import sockets
from hooper_api_docker.sockets import Transport, accepting

pytestmark = pytest.mark.anyio

SECONDS = 10


class Listener(socket.socket):
    """A listening socket that fails as often as it is told to."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX)
        self.setblocking(False)
        self.bind("")  # the kernel chooses an abstract name
        self.listen()
        self.failures: list[int] = []
        self.tried: list[float] = []

    def accept(self) -> tuple[socket.socket, Any]:
        self.tried.append(anyio.current_time())
        if self.failures:
            number = self.failures.pop()
            if number == errno.ECONNABORTED:
                super().accept()[0].close()
            raise OSError(number, "a failure")
        return super().accept()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


def connected(listener: Listener) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(SECONDS)
    client.connect(listener.getsockname())
    return client


async def until(taken: list[socket.socket], number: int) -> None:
    with anyio.fail_after(SECONDS):
        while len(taken) < number:
            await anyio.sleep(0.001)


async def test_each_connection_is_taken_once(listener: Listener) -> None:
    taken: list[socket.socket] = []
    clients = [connected(listener) for _ in range(3)]
    with accepting(listener, taken.append):
        await until(taken, 3)
        clients.append(connected(listener))
        await until(taken, 4)
    for number, (ours, theirs) in enumerate(zip(taken, clients, strict=True)):
        theirs.send(b"%d" % number)
        assert ours.recv(10) == b"%d" % number
        ours.close()
        theirs.close()


async def test_nothing_is_taken_afterwards(listener: Listener) -> None:
    taken: list[socket.socket] = []
    with accepting(listener, taken.append):
        pass
    with connected(listener):
        await anyio.sleep(0.05)
    assert not taken


@pytest.mark.parametrize("failure", [errno.EMFILE, errno.EINVAL, errno.ENETDOWN])
async def test_what_may_last_is_not_tried_over_and_over(listener: Listener, failure: int) -> None:
    listener.failures = [failure] * 1000
    begun = anyio.current_time()
    with connected(listener), accepting(listener, lambda _: None):
        await anyio.sleep(0.3)
    assert 1 <= len(listener.tried) <= 1 + (anyio.current_time() - begun) / 0.1


async def test_out_of_descriptors_it_waits_for_some_to_be_freed(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_PAUSE_S", 0.2)
    listener.failures = [errno.ENFILE, errno.EMFILE]
    taken: list[socket.socket] = []
    with connected(listener), accepting(listener, taken.append):
        await until(taken, 1)
    first, second, third = listener.tried
    assert second - first > 0.1 and third - second > 0.1  # and not over and over
    taken[0].close()


async def test_a_pause_ends_with_it(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_PAUSE_S", 0.05)
    listener.failures = [errno.EMFILE]
    taken: list[socket.socket] = []
    with connected(listener):
        with accepting(listener, taken.append):
            with anyio.fail_after(SECONDS):
                while not listener.tried:
                    await anyio.sleep(0.001)
        await anyio.sleep(0.1)
    assert not taken


async def test_a_client_that_has_gone_ends_nothing(listener: Listener) -> None:
    listener.failures = [errno.ECONNABORTED]
    taken: list[socket.socket] = []
    connected(listener).close()
    with accepting(listener, taken.append), connected(listener) as client:
        await until(taken, 1)
        client.send(b"x")
        assert taken[0].recv(10) == b"x" and len(listener.tried) == 2
    taken[0].close()


async def test_a_transport_waits_for_what_comes_and_for_room() -> None:
    ours, theirs = socket.socketpair()
    transport, peer = Transport(ours), Transport(theirs)
    data = bytes(1 << 20)
    with ours, theirs:
        async with anyio.create_task_group() as group:
            group.start_soon(transport.send, data)
            received = b""
            with anyio.fail_after(SECONDS):
                while len(received) < len(data):
                    received += await peer.receive()
        assert received == data


async def test_who_gives_up_waiting_takes_nothing() -> None:
    ours, theirs = socket.socketpair()
    transport = Transport(ours)
    with ours, theirs:
        with anyio.move_on_after(0.01) as scope:
            await transport.receive()
        assert scope.cancelled_caught
        theirs.send(b"x")
        await anyio.sleep(0.01)
        assert await transport.receive() == b"x"
