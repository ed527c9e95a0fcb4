"""When the launcher is left alone."""

from __future__ import annotations

import fcntl
import resource
import socket
from collections.abc import Iterator

import pytest

from hooper.runtime.spare import is_quiet


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_channel_is_quiet_until_something_comes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    assert is_quiet(ours)
    theirs.send(b"x")
    assert not is_quiet(ours)


def test_the_end_is_news_too(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    assert not is_quiet(ours)


def test_a_daemon_with_many_descriptors_gives_a_channel_a_high_number(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """It keeps its number in the launcher; select() would take none from 1024 on."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1100:
        pytest.skip("this host's limit of open files allows no such number")
    ours, theirs = pair
    with socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1100)) as high:
        assert high.fileno() >= 1100 and is_quiet(high)
        theirs.send(b"x")
        assert not is_quiet(high)
