"""A build's way through the engine: what becomes of snapshots, layers, leases and files, however it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest
from images_support import Host, TarStorage, tar_of

from hooper.api.build_events import StepDone, StepOutput
from hooper.api.build_graph import Copy, CopySource, InlineFile, InlineSource, MakeDirectory, Run, Scratch
from hooper.api.build_session import NoSession
from hooper.api.builder import BuildRequest, HistoryStep, Plan, Progress
from hooper.api.errors import InvalidArgument, StepFailed
from hooper.api.model import Image, ImageConfig
from hooper.api.storage import SnapshotKind
from hooper.engine.build_cache import BuildCache
from hooper.engine.build_cache_limits import Bounds, CacheLimits
from hooper.engine.build_contexts import Contexts
from hooper.engine.builds import BuildService


class ReparentingStorage(TarStorage):
    async def commit_onto(self, name, key, parent):
        info = self._info(key)
        self.snapshots[key] = type(info)(key, info.kind, parent, info.created)
        await self.commit(name, key)


class Told(Progress):
    def __init__(self):
        self.events = []

    async def event(self, event):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


class FakeFiles:
    """Workers that know only what becomes of the snapshot at hand."""

    def __init__(self, storage):
        self.storage, self.calls, self.made = storage, [], True

    async def run(self, function, arguments, fds=()):
        name = function.rpartition(":")[2]
        self.calls.append(name)
        if name == "copy_files":
            write(self.storage, {arguments["destination"].decode(): b"copied"})
        if name == "make_directory" and self.made:
            write(self.storage, {arguments["path"]: b""})
        if name == "list_tree":
            return [[b"a", "file", "sha256:1", 1, b""]]
        if name == "choose_files":
            return {"items": [[b"a", b"a", None]], "digest": "sha256:2", "matched": 1}
        return self.made


def write(storage, files):
    key = [k for k, info in storage.snapshots.items() if info.kind is SnapshotKind.ACTIVE][-1]
    storage.tars[key] = tar_of(files)


class FakeRunner:
    """Commands: "write NAME", "exit CODE", "sleep"."""

    def __init__(self, storage):
        self.storage, self.seen = storage, []

    async def init_layer(self, chain):
        name = f"init-{chain}"
        if name not in self.storage.snapshots:
            await self.storage.prepare("init-new", chain)
            await self.storage.commit(name, "init-new")
        return name

    async def run_step(self, mounts, run, *, request, session, sources, contents, output):
        self.seen.append(run.args[-1])
        await output(1, b"said\n")
        verb, _, word = run.args[-1].partition(" ")
        if verb == "sleep":
            await anyio.sleep_forever()
        if verb == "exit":
            return int(word)
        write(self.storage, {word: b"x"})
        return 0


class Bench:
    """`plan` is the recipe: from what the services offer to a graph."""

    def __init__(self, root: Path, storage_class):
        self.storage = storage_class()
        self.host = Host(root, storage=self.storage)
        self.files, self.runner = FakeFiles(self.storage), FakeRunner(self.storage)
        self.events, self.told, self.recipe = [], Told(), None
        self.root, database = root / "builds", self.host.database
        cache = BuildCache(database, self.host.images.layers.driver)
        collector = self.host.images.collector
        self.service = BuildService(
            self.host.images, self.storage, self.files, self.builder_for, self.runner, Contexts(self.files, self.root),
            CacheLimits(database, cache, collector, Bounds(1 << 40, 0), root), cache, self.root,
            lambda *event: self.events.append(event), lambda work, *words: asyncio.ensure_future(work(*words)),
        )  # fmt: skip

    async def builder_for(self, request):
        return self

    async def plan(self, request, services):
        result, base = await self.recipe(services)
        steps = [HistoryStep(shown=node.name, stage="0", created_by=node.name, node=node) for node in line(result)]
        return Plan(result=result, config=ImageConfig(), steps=steps, stages=["0"], base=base, architecture="amd64")

    def run(self, recipe, **request):
        self.recipe, self.told = recipe, Told()
        return anyio.run(self.service.build, BuildRequest(**request), self.told, None, NoSession())

    def leftovers(self):
        snapshots = [key for key, info in self.storage.snapshots.items() if info.kind is not SnapshotKind.COMMITTED]
        kept = [path.name for path in self.root.iterdir()] if self.root.exists() else []
        return snapshots + kept + ["lease"] * self.host.rows("leases")

    def import_image(self, name="base"):
        async def make():
            await self.storage.prepare("import")
            self.storage.tars["import"] = tar_of({"base": b""})
            layer = await self.host.images.layers.adopt("import", "")
            return await self.host.images.create_image(Image(architecture="amd64", os="linux"), layer.chain_id, (name,))

        return anyio.run(make)


def line(node):
    """The steps that lead to a node, in order."""
    found = []
    while isinstance(node, Run | Copy | MakeDirectory):
        found.append(node)
        node = node.base
    return found[::-1]


@pytest.fixture(params=[TarStorage, ReparentingStorage])
def bench(request, tmp_path):
    made = Bench(tmp_path / "host", request.param)
    yield made
    made.host.database.close()


def on_base(*steps):
    """A recipe: steps on the image "base", each made from the one before."""

    async def recipe(services):
        base = (await services.image("base")).node
        node = base
        for step in steps:
            node = step(node)
        return node, base

    return recipe


def run(text, **more):
    return lambda base: Run(base=base, name=f"RUN {text}", args=("/bin/sh", "-c", text), **more)


def copy_of(node, destination):
    return lambda base: Copy(
        base=base, name=f"COPY {destination}", sources=(CopySource(node=node, paths=("a",)),), destination=destination
    )


WRITTEN = InlineSource(files=(InlineFile("a", b"x"),))


def test_steps_become_layers_and_an_image(bench):
    bench.import_image()
    outcome = bench.run(on_base(run("write f"), copy_of(WRITTEN, "/x")), tags=["app", "app:2"])
    summary = anyio.run(bench.host.images.get, "app:2")
    assert summary.id == outcome.image_id
    chains = [layer.chain_id for layer in bench.host.images.layers.ancestry(summary.chain)]
    assert len(chains) == 3
    assert [bench.storage.snapshots[chain].parent for chain in chains] == ["", *chains[:-1]]
    assert [event.data for event in bench.told.of(StepOutput)] == [b"said\n"]
    assert bench.leftovers() == []


def test_finished_steps_are_not_carried_out_again(bench):
    bench.import_image()
    recipe = on_base(run("write f"), copy_of(WRITTEN, "/x"), run("write g"))
    first = bench.run(recipe)
    assert bench.run(recipe).image_id == first.image_id
    assert bench.runner.seen == ["write f", "write g"]
    assert [event.cached for event in bench.told.of(StepDone)] == [True] * 3
    bench.run(on_base(run("write f"), copy_of(WRITTEN, "/y"), run("write g")))
    assert bench.runner.seen == ["write f", "write g", "write g"]


def test_files_of_another_stage_are_found_once(bench):
    bench.import_image()

    async def recipe(services):
        base = (await services.image("base")).node
        return copy_of(run("write f")(base), "/x")(base), base

    bench.run(recipe)
    bench.run(recipe)
    assert bench.files.calls.count("choose_files") == 1
    assert bench.leftovers() == []


def test_a_failing_command(bench):
    bench.import_image()
    with pytest.raises(StepFailed, match="The command '/bin/sh -c exit 3' returned a non-zero code: 3") as raised:
        bench.run(on_base(run("write f"), run("exit 3")))
    assert raised.value.exit_code == 3
    assert bench.leftovers() == []
    bench.run(on_base(run("write f"), run("write g")))
    assert bench.runner.seen == ["write f", "exit 3", "write g"]


def test_a_cancelled_build_leaves_nothing(bench):
    bench.import_image()
    bench.recipe = on_base(run("write f"), run("sleep"))

    async def work():
        with anyio.move_on_after(0.3) as scope:
            await bench.service.build(BuildRequest(), Told(), None, NoSession())
        assert scope.cancelled_caught

    anyio.run(work)
    assert bench.leftovers() == []


def test_layers_are_held_until_the_build_ends(bench):
    bench.import_image()
    collect = bench.host.images.collector.collect
    run_step = bench.runner.run_step

    async def collecting(*words, **more):
        await collect()
        return await run_step(*words, **more)

    bench.runner.run_step = collecting
    outcome = bench.run(on_base(run("write f"), run("write g")))
    assert len(bench.host.images.layers.ancestry(anyio.run(bench.host.images.get, outcome.image_id).chain)) == 3


def test_a_directory_that_is_there_makes_no_layer(bench):
    bench.import_image()
    bench.files.made = False
    bench.run(on_base(lambda base: MakeDirectory(base=base, name="WORKDIR", path="/there")))
    assert bench.host.rows("layers") == 1
    bench.files.made = True
    bench.run(on_base(lambda base: MakeDirectory(base=base, name="WORKDIR", path="/new")))
    assert bench.host.rows("layers") == 2
    assert bench.leftovers() == []


def test_an_image_from_nothing(bench):
    async def recipe(services):
        return copy_of(WRITTEN, "/a")(Scratch()), None

    bench.run(recipe, tags=["s"])
    assert anyio.run(bench.host.images.get, "s").image.architecture == "amd64"
    assert bench.leftovers() == []


def test_steps_are_pruned(bench):
    bench.import_image()
    bench.run(on_base(run("write f")))
    pruned = anyio.run(lambda: bench.service.prune({}, all=True))
    assert len(pruned.items) == 1
    assert bench.events[-1][:2] == ("builder", "prune")


def test_a_bad_tag_fails_before_any_work(bench):
    async def recipe(services):
        raise AssertionError

    with pytest.raises(InvalidArgument, match="lowercase"):
        bench.run(recipe, tags=["UPPER"])
