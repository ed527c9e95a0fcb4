"""Which monitors wait at the launcher, and for how long."""

from __future__ import annotations

import fcntl
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hooper.runtime import spare, wire
from hooper.runtime.spare import Spares

PATIENCE_S = 10

Ends = tuple[socket.socket, socket.socket]


class Forks:
    """Makes spares that are nothing but the other end of a channel."""

    def __init__(self) -> None:
        self.made: list[socket.socket] = []
        self.refuses = False
        self.refused = 0

    def __call__(self) -> socket.socket:
        if self.refuses:
            self.refused += 1
            raise OSError("no further process")
        ours, theirs = wire.pair()
        theirs.settimeout(PATIENCE_S)
        self.made.append(theirs)
        return ours


@pytest.fixture
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    for end in forks.made:
        end.close()


@pytest.fixture
def daemon() -> Iterator[Ends]:
    """The launcher's end, and the daemon's."""
    ours, theirs = wire.pair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def spares(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spares]:
    monkeypatch.setattr(spare, "QUIET_S", 0.01)
    monkeypatch.setattr(spare, "IDLE_S", 60)
    spares = Spares(forks)
    yield spares
    for channel in [*spares.channels, spares.door]:
        channel.close()


def offer(spares: Spares) -> socket.socket:
    offered = spare.offer(spares.door)
    assert offered is not None
    offered.settimeout(PATIENCE_S)
    return offered


def received(end: socket.socket) -> bytes | None:
    got = wire.receive(end)
    return None if got is None else got[0]


def look(spares: Spares, daemon: Ends, until: Callable[[], object] | None = None, seconds: float = PATIENCE_S) -> None:
    """Attends until the daemon says something, which it does once that is true, and after so long at the latest."""
    ours, theirs = daemon

    def speak() -> None:
        end = time.monotonic() + seconds
        while until is not None and not until() and time.monotonic() < end:
            time.sleep(0.002)
        theirs.send(b"x")

    speaker = threading.Thread(target=speak)
    if until is None:
        speak()
    else:
        speaker.start()
    spares.attend(ours)
    assert ours.recv(1) == b"x"
    if until is not None:
        speaker.join()


def never() -> bool:
    return False


def test_one_is_forked_when_all_is_quiet(spares: Spares, forks: Forks, daemon: Ends) -> None:
    look(spares, daemon)
    assert not forks.made
    look(spares, daemon, lambda: forks.made)
    assert spares.give(b"spawn", [])
    assert received(forks.made[0]) == b"spawn"
    assert len(forks.made) == 1 and not spares.give(b"another", [])


def test_none_is_forked_while_one_waits_that_offered_itself(spares: Spares, forks: Forks, daemon: Ends) -> None:
    with offer(spares) as offered:
        look(spares, daemon, never, 0.1)
        assert not forks.made
        assert spares.give(b"spawn", []) and received(offered) == b"spawn"
    look(spares, daemon, lambda: forks.made)
    assert len(forks.made) == 1


def test_the_last_to_offer_itself_is_the_first_to_be_given_something(spares: Spares, daemon: Ends) -> None:
    first, second = offer(spares), offer(spares)
    with first, second:
        look(spares, daemon)
        assert spares.give(b"one", []) and spares.give(b"two", [])
        assert (received(second), received(first)) == (b"one", b"two")


def test_all_but_the_last_are_sent_away_when_nothing_happens(
    spares: Spares, daemon: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spare, "IDLE_S", 0.05)
    ends = [offer(spares) for _ in range(3)]
    look(spares, daemon, lambda: all(select.select([end], [], [], 0)[0] for end in ends[:2]))
    assert [received(end) for end in ends[:2]] == [None, None]
    assert spares.give(b"spawn", []) and received(ends[2]) == b"spawn"
    for end in ends:
        end.close()


def test_no_more_are_kept_than_may_wait(spares: Spares, daemon: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "MOST", 2)
    ends = [offer(spares) for _ in range(3)]
    look(spares, daemon)
    assert received(ends[2]) is None
    assert spares.give(b"1", []) and spares.give(b"2", []) and not spares.give(b"3", [])
    for end in ends:
        end.close()


def test_one_that_has_died_is_passed_over(spares: Spares, daemon: Ends) -> None:
    living, dead = offer(spares), offer(spares)
    dead.close()
    look(spares, daemon)
    assert spares.give(b"spawn", []) and received(living) == b"spawn"
    living.close()


def test_a_fork_that_fails_is_not_tried_again_before_the_next_start(spares: Spares, forks: Forks, daemon: Ends) -> None:
    forks.refuses = True
    look(spares, daemon, lambda: forks.refused)
    forks.refuses = False
    look(spares, daemon, never, 0.1)
    assert not forks.made
    assert not spares.give(b"spawn", [])
    look(spares, daemon, lambda: forks.made)
    assert forks.refused == 1 and len(forks.made) == 1


def test_a_monitor_hears_that_the_launcher_is_gone() -> None:
    spares = Spares(Forks())
    with spares.door:
        with offer(spares) as offered:
            for channel in spares.channels:
                channel.close()
            assert received(offered) is None
        assert spare.offer(spares.door) is None


def test_the_end_of_the_daemon_is_news(spares: Spares, daemon: Ends) -> None:
    ours, theirs = daemon
    theirs.close()
    spares.attend(ours)
    assert ours.recv(1) == b""


def test_a_daemon_with_many_descriptors_gives_a_channel_a_high_number(
    spares: Spares, forks: Forks, daemon: Ends
) -> None:
    """It keeps its number in the launcher; select() would take none from 1024 on."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1100:
        pytest.skip("this host's limit of open files allows no such number")
    ours, theirs = daemon
    with socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1100)) as high:
        assert high.fileno() >= 1100
        look(spares, (high, theirs), lambda: forks.made)
        assert len(forks.made) == 1
