"""A move that breaks off, anywhere: the container is whole on exactly one side, and the other has nothing of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import moving_support as moving
import pytest

import conftest
import support
from hooper.api.errors import HooperError
from hooper.client import moving as client_moving
from hooper.client.moving import AlreadyMoved, Mover
from hooper.engine.moving_store import COMMITTING, ArrivalStore
from hooper.state.database import Database

pytestmark = pytest.mark.root
Pair = tuple[support.Hooper, support.Hooper]
CONTENT = "".join(f"{number}\n" for number in range(60000))
"""Some 350 kB, in the container and in its volume each."""


@pytest.fixture(scope="module")
def daemons(short_tmp: Path) -> Iterator[Pair]:
    with support.hooper(short_tmp / "ba") as one, support.hooper(short_tmp / "bb") as other:
        for daemon in (one, other):
            conftest.import_busybox(daemon)
        yield one, other


@pytest.fixture
def pair(daemons: Pair) -> Iterator[Pair]:
    """Two engines; on the first runs "web", which has files and a volume."""
    here, _ = daemons
    here.docker(
        "run", "-d", "--name", "web", "--stop-signal", "KILL", "-v", "data:/data", "busybox", "sleep", "100000"
    )  # fmt: skip
    here.docker("exec", "-i", "web", "sh", "-c", "tee /mine >/data/ours; ln /mine /yours", stdin=CONTENT)
    yield daemons
    for daemon in daemons:
        if daemon.process and daemon.process.poll() is not None:
            daemon.start()
        daemon.clear()
        daemon.docker("volume", "prune", "-af")
        assert moving.left_over(daemon) == []


def _whole(engine: support.Engine) -> bool:
    seen = engine.docker("exec", "web", "sh", "-c", "cat /mine /data/ours /yours; stat -c %h /mine", check=False)
    return seen.stdout == f"{CONTENT * 3}2\n"


def _settled(here: support.Hooper, there: support.Hooper) -> support.Hooper:
    """The one side that has the container; it runs there, and is whole, and the other side has nothing."""

    def runs_once() -> bool:
        found = [engine for engine in (here, there) if moving.has(engine, "web")]
        return len(found) == 1 and bool(found[0].inspect("web")["State"]["Running"])

    support.until(runs_once, 20, "the container runs on one side alone")
    owner, other = (here, there) if moving.has(here, "web") else (there, here)
    assert _whole(owner)
    support.until(lambda: moving.left_over(other) == [], 10, f"nothing is left: {moving.left_over(other)}")
    assert other.docker("volume", "ls", "-q").stdout == ""
    assert owner.docker("volume", "ls", "-q").stdout == "data\n"
    return owner


class _Vanished(BaseException):
    """Ends the client as SIGKILL does: nothing more is said to anybody."""


def _vanish_after(mover: Mover, step: str) -> None:
    """Runs a move whose client is gone after one of its steps."""
    mover._give_up = lambda *_: None  # type: ignore[method-assign]
    if step == "seal":
        original_post: Callable[..., Any] = mover.source.post

        def post(path: str, *arguments: Any, **more: Any) -> Any:
            answer = original_post(path, *arguments, **more)
            if path.endswith("/seal"):
                raise _Vanished
            return answer

        mover.source.post = post  # type: ignore[method-assign]
    else:
        original: Callable[..., Any] = getattr(mover, step)

        def stop(*arguments: Any) -> None:
            original(*arguments)
            raise _Vanished

        setattr(mover, step, stop)
    with pytest.raises(_Vanished):
        mover.move(*mover.prepare("web"))


@pytest.mark.parametrize("step", ["_begin", "_stream", "seal", "_commit"])
def test_the_client_is_killed_after(pair: Pair, step: str) -> None:
    here, there = pair
    _vanish_after(moving.mover(here.address, there.address), step)
    failed = here.docker("start", "web", check=False)
    assert failed.returncode == 1 and "is being moved to" in failed.stderr
    assert here.docker("rm", "-f", "web", check=False).returncode == 1
    # The two ask each other: nobody has to do anything.
    assert _settled(here, there) is (there if step == "_commit" else here)


def test_a_move_that_is_in_doubt_is_finished_by_the_next(pair: Pair) -> None:
    here, there = pair
    mover = moving.mover(here.address, there.address)
    mover.idle = 60.0
    _vanish_after(mover, "_commit")
    again = moving.mover(here.address, there.address)
    with pytest.raises(AlreadyMoved):
        again.prepare("web")
    assert _settled(here, there) is there


def test_a_move_that_was_sealed_and_never_committed_is_begun_anew(pair: Pair) -> None:
    here, there = pair
    mover = moving.mover(here.address, there.address)
    mover.idle = 60.0
    _vanish_after(mover, "seal")
    moving.move(here.address, there.address, "web")
    assert _settled(here, there) is there


def test_taken_back_from_a_host_that_is_lost(pair: Pair) -> None:
    here, there = pair
    mover = moving.mover(here.address, there.address)
    mover.idle = 60.0
    _vanish_after(mover, "seal")
    here.hooper("container", "move", "--take-back", "web")
    assert here.inspect("web")["State"]["Running"]
    failed = here.hooper("container", "move", "--take-back", "web", check=False)
    assert failed.returncode == 1 and "not being moved" in failed.stderr
    moving.move(here.address, there.address, "web")
    assert _settled(here, there) is there


def test_another_target_does_not_settle_it(pair: Pair) -> None:
    here, there = pair
    mover = moving.mover(here.address, there.address)
    mover.idle = 60.0
    _vanish_after(mover, "seal")
    with pytest.raises(HooperError, match="on its way"):
        moving.move(here.address, here.address, "web")
    moving.move(here.address, there.address, "web")


def _killed_while_streaming(mover: Mover, victim: support.Hooper) -> None:
    passed = 0

    def meter(count: int) -> None:
        nonlocal passed
        passed += count
        if passed > 300_000 and victim.process and victim.process.poll() is None:
            victim.kill()

    mover._meter = meter
    with pytest.raises(HooperError):
        mover.move(*mover.prepare("web"))


@pytest.mark.parametrize("victim", [0, 1], ids=["source", "target"])
def test_a_daemon_is_killed_while_it_streams(pair: Pair, victim: int) -> None:
    here, there = pair
    _killed_while_streaming(moving.mover(here.address, there.address), pair[victim])
    pair[victim].start()
    assert _settled(here, there) is here


@pytest.mark.parametrize("state", ["received", "committing"])
def test_the_target_is_killed_with_all_of_it(pair: Pair, state: str) -> None:
    """A container that is complete waits for its commit through a restart; one that is half committed is finished."""
    here, there = pair
    mover = moving.mover(here.address, there.address)
    mover.idle = mover.patience = 30.0
    stream = mover._stream

    def stream_and_kill(name: str, transfer: str) -> None:
        stream(name, transfer)
        there.kill()
        if state == "committing":
            database = Database(there.data_root / "hooper.db")
            store = ArrivalStore(database, there.data_root / "moving")
            arrival = store.get(transfer)
            assert arrival
            store.advance(arrival, COMMITTING)
            database.close()
        there.start()
        assert moving.has(there, "web") is (state == "committing")

    mover._stream = stream_and_kill  # type: ignore[method-assign]
    mover.move(*mover.prepare("web"))
    assert _settled(here, there) is there


def test_the_source_is_killed_before_it_learns_of_the_commit(pair: Pair) -> None:
    here, there = pair
    mover = moving.mover(here.address, there.address)
    mover.patience = 30.0
    commit = mover._commit

    def commit_and_kill(transfer: str) -> Any:
        arrived = commit(transfer)
        here.kill()
        here.start()
        return arrived

    mover._commit = commit_and_kill  # type: ignore[method-assign]
    mover.move(*mover.prepare("web"))
    assert _settled(here, there) is there


def test_the_disk_becomes_full_there(pair: Pair, short_tmp: Path) -> None:
    here, _ = pair
    here.docker("exec", "web", "dd", "if=/dev/urandom", "of=/data/big", "bs=1M", "count=24")
    with moving.tmpfs(short_tmp / "small", "20m") as place, support.hooper(place / "d") as there:
        mover = moving.mover(here.address, there.address)
        with pytest.raises(HooperError, match="no room"):
            mover.prepare("web")
        client_size, client_moving.own_size = client_moving.own_size, lambda plan: 0
        try:
            plan, verdict = _checked_without_room(mover)
        finally:
            client_moving.own_size = client_size
        with pytest.raises(HooperError):
            mover.move(plan, verdict)
        assert not moving.has(there, "web")
        support.until(lambda: moving.left_over(there) == [], 10, "nothing is left")
        assert there.docker("image", "ls", "-aq").stdout == ""
    support.until(lambda: here.inspect("web")["State"]["Running"], what="runs here again")
    assert _whole(here)


def _checked_without_room(mover: Mover) -> tuple[Any, Any]:
    """As if the disk had filled up after the check."""
    plan = mover.source.get("/hooper/containers/web/plan")
    mover._engine = client_moving.about(mover.target)["engine"]
    layers = [layer["chain_id"] for layer in plan["manifest"]["image"]["layers"]]
    return plan, {"layers": layers, "volumes": {"data": "new"}, "networks": {"bridge": "there"}, "warnings": []}


# --- cuts at random bytes --------------------------------------------------------------------------------------


def _passing(here: support.Hooper, there: support.Hooper, side: int, place: Path) -> int:
    """How many bytes a whole move takes through one side's connection."""
    proxy = moving.CuttingProxy(place, (here, there)[side].socket_path, 1 << 40, for_good=False)
    addresses = [here.address, there.address]
    addresses[side] = proxy.address
    moving.move(addresses[0], addresses[1], "web")
    proxy.close()
    return (1 << 40) - proxy._left


def test_connections_cut_at_random_bytes(pair: Pair, short_tmp: Path) -> None:
    chosen = random.Random(20240607)
    owner, other = pair
    sizes = []
    for side in (0, 1):
        sizes.append(_passing(owner, other, side, short_tmp / "cut.sock"))
        owner, other = other, owner
    arrived = 0
    for _ in range(30):
        side = chosen.randrange(2)
        # Half of them near the end, where the two sides agree on the outcome.
        tail = chosen.random() < 0.5
        limit = sizes[side] - chosen.randrange(4000) if tail else chosen.randrange(1, sizes[side])
        addresses = [owner.address, other.address]
        proxy = moving.CuttingProxy(
            short_tmp / "cut.sock", (owner, other)[side].socket_path, limit, for_good=chosen.random() < 0.5
        )
        addresses[side] = proxy.address
        with contextlib.suppress(HooperError):
            moving.move(addresses[0], addresses[1], "web")
        proxy.close()
        with contextlib.suppress(AlreadyMoved, HooperError):
            # Whoever is in doubt is told by the next try, which goes no further here.
            moving.mover(owner.address, other.address).prepare("web")
        now = _settled(owner, other)
        if now is other:
            arrived += 1
            owner, other = other, owner
    assert 0 < arrived < 30
