"""The order in which a graph is carried out, what is run once, and what becomes of steps that are cancelled."""

from __future__ import annotations

from collections import defaultdict

import anyio
import pytest

from hooper.api.build_graph import Copy, CopySource, ImageSource, Node, Run, Scratch
from hooper.api.errors import StepFailed
from hooper.engine.build_image import Made
from hooper.engine.solver import Flights, Solver, needed

pytestmark = pytest.mark.anyio


def made(name):
    return Made(chain=name, diff_ids=(name,), created="t", added=True)


class Work:
    """Steps by name: a key is the name and the base's chain; `gates` hold a step until they are opened."""

    def __init__(self, known=(), failing=()):
        self.known, self.failing = set(known), set(failing)
        self.ran, self.cancelled, self.running = [], [], set()
        self.gates = {}
        self.most = 0

    async def key(self, node, results):
        return "" if not isinstance(node, Run | Copy) else f"{node.name}@{results[node.base].chain}"

    async def recall(self, key, node, results):
        return made(key) if node.name in self.known else None

    async def perform(self, key, node, results, output):
        self.running.add(node.name)
        self.most = max(self.most, len(self.running))
        try:
            await output(1, f"{node.name} begins\n".encode())
            await anyio.sleep(0)
            if node.name in self.gates:
                await self.gates[node.name].wait()
            if node.name in self.failing:
                raise StepFailed(f"{node.name} failed", exit_code=3)
            self.ran.append(node.name)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(node.name)
            raise
        finally:
            self.running.discard(node.name)
        return made(key or node.name)


class Report:
    def __init__(self):
        self.begun, self.finished, self.cached, self.errors = [], [], [], []
        self.said = defaultdict(bytes)

    async def started(self, node):
        self.begun.append(node.name)

    async def output(self, node, stream, data):
        self.said[node.name] += data

    async def done(self, node, result, *, cached):
        (self.cached if cached else self.finished).append(node.name)

    async def failed(self, node, error):
        self.errors.append((node.name, str(error)))


class Engine:
    """Flights and the limit that builds share."""

    def __init__(self, tasks, limit=8):
        self.flights = Flights(tasks.start_soon)
        self.limit = anyio.CapacityLimiter(limit)

    def solver(self, work, report):
        return Solver(work, self.flights, self.limit, report)


async def solved(work, target, limit=8):
    report = Report()
    async with anyio.create_task_group() as tasks:
        solver = Engine(tasks, limit).solver(work, report)
        result = await solver.solve(target)
    return result, report


def chain(*names, base=None):
    node = base or Scratch(name="scratch")
    for name in names:
        node = Run(name=name, base=node, args=(name,))
    return node


async def test_steps_follow_their_bases():
    work = Work()
    result, report = await solved(work, chain("a", "b", "c"))
    assert work.ran == ["scratch", "a", "b", "c"] and result.chain == "c@b@a@scratch"
    assert report.finished == ["scratch", "a", "b", "c"] and report.said["b"] == b"b begins\n"


async def test_what_is_known_is_not_run():
    work = Work(known=("a", "b"))
    _, report = await solved(work, chain("a", "b", "c"))
    assert work.ran == ["scratch", "c"] and report.cached == ["a", "b"] and "a" not in report.begun


async def test_fresh_steps_pass_over_the_cache():
    work = Work(known=("a",))
    await solved(work, Run(name="a", base=Scratch(), args=("a",), fresh=True))
    assert "a" in work.ran


async def test_a_node_is_run_once_however_many_need_it():
    work, base = Work(), chain("a")
    left, right = chain("l", base=base), chain("r", base=base)
    target = Copy(
        name="t", base=left, sources=(CopySource(node=right, paths=("x",)), CopySource(node=base, paths=("y",))),
        destination="/",
    )  # fmt: skip
    await solved(work, target)
    assert sorted(work.ran) == ["a", "l", "r", "scratch", "t"] and work.ran[-1] == "t"


async def test_independent_steps_run_side_by_side_up_to_the_limit():
    base = Scratch(name="scratch")
    sources = [chain(f"s{i}", base=base) for i in range(6)]
    target = Copy(
        name="t", base=base, sources=tuple(CopySource(node=s, paths=("x",)) for s in sources), destination="/"
    )  # fmt: skip
    for limit, most in ((8, 6), (2, 2), (1, 1)):
        work = Work()
        await solved(work, target, limit)
        assert work.most == most


async def test_a_chain_may_be_long():
    work = Work()
    await solved(work, chain(*(f"n{i}" for i in range(3000))))
    assert len(work.ran) == 3001


async def test_the_first_error_ends_the_others():
    work, base = Work(failing=("bad",)), Scratch(name="scratch")
    work.gates["slow"] = anyio.Event()
    target = Copy(
        name="t", base=chain("bad", base=base), sources=(CopySource(node=chain("slow", base=base), paths=("x",)),),
        destination="/",
    )  # fmt: skip
    async with anyio.create_task_group() as tasks:
        with pytest.raises(StepFailed) as caught:
            await Engine(tasks).solver(work, Report()).solve(target)
    assert caught.value.exit_code == 3 and work.cancelled == ["slow"] and "t" not in work.ran


async def test_an_error_is_reported_once():
    work, report = Work(failing=("bad",)), Report()
    async with anyio.create_task_group() as tasks:
        with pytest.raises(StepFailed):
            await Engine(tasks).solver(work, report).solve(chain("bad", "after"))
    assert report.errors == [("bad", "bad failed")]


async def test_two_builds_share_a_step_and_its_output():
    work, first, second = Work(), Report(), Report()
    work.gates["a"] = anyio.Event()
    async with anyio.create_task_group() as tasks:
        engine = Engine(tasks)
        for report in (first, second):
            tasks.start_soon(engine.solver(work, report).solve, chain("a", "b"))
        while "a" not in first.begun or "a" not in second.begun:
            await anyio.sleep(0)
        work.gates["a"].set()
    assert work.ran.count("a") == work.ran.count("b") == 1
    assert first.said["a"] == second.said["a"] == b"a begins\n"


async def test_a_build_that_comes_later_gets_the_output_in_its_order():
    said, heard, gates = [b"1", b"2", b"3", b"4"], [], [anyio.Event(), anyio.Event()]

    async def perform(tell):
        for piece in said[:2]:
            await tell(1, piece)
        await gates[0].wait()
        for piece in said[2:]:
            await tell(1, piece)
        await gates[1].wait()
        return made("x")

    async def slowly(stream, data):
        await anyio.sleep(0.005)
        heard.append(data)

    async def nothing(stream, data):
        gates[0].set() if data == said[1] else None

    async with anyio.create_task_group() as tasks:
        flights = Flights(tasks.start_soon)
        tasks.start_soon(flights.join, "k", perform, nothing)
        await anyio.sleep(0)
        tasks.start_soon(flights.join, "k", perform, slowly)
        while len(heard) < len(said):
            await anyio.sleep(0.005)
        gates[1].set()
    assert heard == said


async def test_a_step_goes_on_for_the_other_build_when_the_first_is_cancelled():
    work, report = Work(), Report()
    work.gates["a"] = anyio.Event()
    async with anyio.create_task_group() as tasks:
        engine, scope = Engine(tasks), anyio.CancelScope()

        async def first():
            with scope:
                await engine.solver(work, Report()).solve(chain("a"))

        tasks.start_soon(first)
        while "a" not in work.running:
            await anyio.sleep(0)
        tasks.start_soon(engine.solver(work, report).solve, chain("a"))
        while "a" not in report.begun:
            await anyio.sleep(0)
        await anyio.sleep(0)
        scope.cancel()
        await anyio.sleep(0.01)
        assert "a" in work.running
        work.gates["a"].set()
    assert work.ran.count("a") == 1 and "a" in report.finished and not work.cancelled


async def test_a_step_that_nobody_waits_for_is_cancelled():
    work = Work()
    work.gates["a"] = anyio.Event()
    async with anyio.create_task_group() as tasks:
        engine, scope, ended = Engine(tasks), anyio.CancelScope(), anyio.Event()

        async def build():
            with scope:
                await engine.solver(work, Report()).solve(chain("a"))
            ended.set()

        tasks.start_soon(build)
        while "a" not in work.running:
            await anyio.sleep(0)
        scope.cancel()
        await ended.wait()
        assert work.cancelled == ["a"] and not work.running


async def test_a_step_that_failed_with_its_build_is_tried_again_by_the_other():
    """What the first build alone had (its client's secret) may be what was missing."""
    work, report = Work(failing=("a",)), Report()
    work.gates["a"] = anyio.Event()
    async with anyio.create_task_group() as tasks:
        engine, scope = Engine(tasks), anyio.CancelScope()

        async def first():
            with scope:
                await engine.solver(work, Report()).solve(chain("a"))

        tasks.start_soon(first)
        while "a" not in work.running:
            await anyio.sleep(0)
        tasks.start_soon(engine.solver(work, report).solve, chain("a"))
        while "a" not in report.begun:
            await anyio.sleep(0)
        await anyio.sleep(0.01)
        scope.cancel()
        await anyio.sleep(0.01)
        work.gates["a"].set()
        await anyio.sleep(0)
        work.failing.clear()
    assert "a" in report.finished


def test_needed_is_everything_below():
    base = ImageSource(name="i", reference="i", image_id="i", chain="c")
    run = Run(name="r", base=base, args=("x",))
    other: Node = Scratch()
    assert needed([run]) == {run, base} and other not in needed([run])
