"""The engine's build services: what becomes of snapshots, layers, leases and files, however a build ends."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from images_support import Host, TarStorage, tar_of

from hooper.api.builder import BuildRequest, CopySource, CopyStep, Progress, RunStep
from hooper.api.errors import InvalidArgument, NotFound, StepFailed, Unsupported
from hooper.api.model import Image
from hooper.api.storage import SnapshotKind
from hooper.engine.builds import BuildService


class ReparentingStorage(TarStorage):
    async def commit_onto(self, name, key, parent):
        info = self._info(key)
        self.snapshots[key] = type(info)(key, info.kind, parent, info.created)
        await self.commit(name, key)


class Silent(Progress):
    def __init__(self):
        self.text = ""

    async def stream(self, text):
        self.text += text

    async def aux(self, value):
        pass

    async def message(self, value):
        pass


class FakeFiles:
    """Workers that know only what becomes of the snapshot at hand."""

    def __init__(self, storage):
        self.storage, self.calls, self.made = storage, [], True

    async def run(self, function, arguments, fds=()):
        name = function.removeprefix("hooper.content.files:")
        self.calls.append(name)
        if name == "copy_files":
            write(self.storage, {arguments["destination"]: b"copied"})
        if name == "make_directory" and self.made:
            write(self.storage, {arguments["path"]: b""})
        return self.made if name == "make_directory" else [["a", "file", "1"]] if name == "list_tree" else b""


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

    async def run_step(self, mounts, step, image_config, *, network_mode, request, output):
        self.seen.append((step, network_mode))
        for piece in (b"o\xc3", b"\xbct\xff\n"):
            await output("stdout", piece)
        verb, _, word = step.args[-1].partition(" ")
        if verb == "sleep":
            await anyio.sleep_forever()
        if verb == "exit":
            return int(word)
        write(self.storage, {word: b"x"})
        return 0


class Bench:
    def __init__(self, root: Path, storage_class=ReparentingStorage):
        self.storage = storage_class()
        self.host = Host(root, storage=self.storage)
        self.files, self.runner = FakeFiles(self.storage), FakeRunner(self.storage)
        self.events, self.told, self.work = [], Silent(), None
        self.root = root / "builds"
        self.service = BuildService(
            self.host.database, self.host.images, self.storage, self.files, self, self.runner, self.root,
            lambda *event: self.events.append(event), None,
        )  # fmt: skip

    async def build(self, request, services, progress):
        """The builder: whatever the test wants."""
        return await self.work(services)

    def run(self, work, **request):
        self.work = work
        return anyio.run(self.service.build, BuildRequest(context=None, **request), self.told)

    def leftovers(self):
        snapshots = [key for key, info in self.storage.snapshots.items() if info.kind is not SnapshotKind.COMMITTED]
        return snapshots + [path.name for path in self.root.iterdir()] + ["lease"] * self.host.rows("leases")

    def import_image(self, name="base"):
        async def make():
            await self.storage.prepare("import")
            self.storage.tars["import"] = tar_of({"base": b""})
            layer = await self.host.images.layers.adopt("import", "")
            return await self.host.images.create_image(Image(architecture="amd64", os="linux"), layer.chain_id, (name,))

        return anyio.run(make)


@pytest.fixture(params=[TarStorage, ReparentingStorage])
def bench(request, tmp_path):
    made = Bench(tmp_path / "host", request.param)
    yield made
    made.host.database.close()


def step(text, **more):
    return RunStep(args=("/bin/sh", "-c", text), env=(), **more)


def test_steps_become_layers_and_an_image(bench):
    base = bench.import_image()

    async def work(services):
        state = await services.image("base", "", False)
        assert state.image_id == base
        ran = await services.run(state, step("write f"))
        copied = await services.copy(ran, CopyStep(sources=(CopySource(None, state.chain, ("a",)),), destination="/x"))
        assert len(copied.diff_ids) == 3
        assert copied.image_id == ""
        return await services.finish(copied)

    image_id = bench.run(work, tags=["app", "app:2"])
    summary = anyio.run(bench.host.images.get, "app:2")
    assert summary.id == image_id
    chains = [layer.chain_id for layer in bench.host.images.layers.ancestry(summary.chain)]
    assert len(chains) == 3
    assert [bench.storage.snapshots[chain].parent for chain in chains] == ["", *chains[:-1]]
    assert bench.told.text == "oüt\ufffd\n"
    assert bench.leftovers() == []


def test_the_same_content_is_one_layer(bench):
    bench.import_image()

    async def work(services):
        state = await services.image("base", "", False)
        first, second = [await services.run(state, step("write f")) for _ in range(2)]
        assert first == second
        return await services.finish(first)

    bench.run(work)
    assert bench.host.rows("layers") == 2
    assert bench.leftovers() == []


def test_a_failing_command(bench):
    bench.import_image()

    async def work(services):
        await services.run(await services.image("base", "", False), step("exit 3"))

    with pytest.raises(StepFailed, match="The command '/bin/sh -c exit 3' returned a non-zero code: 3") as raised:
        bench.run(work)
    assert raised.value.exit_code == 3
    assert bench.leftovers() == []


def test_a_cancelled_build_leaves_nothing(bench):
    bench.import_image()

    async def work(services):
        state = await services.image("base", "", False)
        await services.list_sources(CopySource(None, state.chain, ("a",)))
        with anyio.move_on_after(0.05):
            await services.run(state, step("sleep"))
        assert "lease" in bench.leftovers()
        raise InvalidArgument("stopped")

    with pytest.raises(InvalidArgument, match="stopped"):
        bench.run(work)
    assert bench.leftovers() == []


def test_layers_are_held_until_the_build_ends(bench):
    bench.import_image()

    async def work(services):
        state = await services.run(await services.image("base", "", False), step("write f"))
        await bench.host.images.collector.collect()
        assert bench.host.images.layers.get(state.chain)
        return await services.finish(await services.run(state, step("write g")))

    bench.run(work)


def test_a_layer_that_another_build_made_is_held_as_soon_as_it_is_known(bench):
    bench.import_image()
    storage, images = bench.storage, bench.host.images
    remove = storage.remove

    async def collecting(key):
        storage.remove = remove
        await remove(key)
        await images.collector.collect()

    async def work(services):
        state = await services.image("base", "", False)
        await storage.prepare("twin", state.chain)
        storage.tars["twin"] = tar_of({"f": b"x"})
        twin = await images.layers.adopt("twin", state.chain)
        storage.remove = collecting
        ran = await services.run(state, step("write f"))
        assert ran.chain == twin.chain_id
        return await services.finish(ran)

    bench.run(work)
    assert bench.host.rows("layers") == 2
    assert bench.leftovers() == []


def test_the_network_of_a_step_goes_before_the_builds(bench):
    bench.import_image()

    async def work(services):
        state = await services.image("base", "", False)
        await services.run(state, step("write a"))
        await services.run(state, step("write b", network_mode="none"))
        return await services.finish(state)

    bench.run(work, network_mode="host")
    assert [mode for _, mode in bench.runner.seen] == ["host", "none"]


def test_remembered_steps_come_back_and_are_pruned(bench):
    bench.import_image()
    kept = {}

    async def first(services):
        state = await services.run(await services.image("base", "", False), step("write f"))
        from msgspec.structs import replace

        kept["state"] = replace(state, key="k")
        await services.remember(kept["state"])
        return await services.finish(await services.image("base", "", False))

    async def second(services):
        assert await services.cached("other") is None
        assert await services.cached("k") == kept["state"]
        return await services.finish(await services.image("base", "", False))

    bench.run(first)
    bench.run(second)
    pruned = anyio.run(bench.service.prune, {})
    assert pruned.items == ["k"]
    assert pruned.space > 0
    assert bench.events[-1][:2] == ("builder", "prune")


def test_a_directory_that_is_there_makes_no_layer(bench):
    bench.import_image()

    async def work(services):
        state = await services.image("base", "", False)
        bench.files.made = False
        assert await services.make_directory(state, "/there", "") is state
        bench.files.made = True
        assert len((await services.make_directory(state, "/new", "")).diff_ids) == 2
        return await services.finish(state)

    bench.run(work)
    assert bench.leftovers() == []


def test_scratch_and_an_image_that_is_nowhere(bench):
    async def work(services):
        state = await services.scratch("linux/arm64")
        assert (state.chain, state.architecture) == ("", "arm64")
        return await services.finish(
            await services.copy(state, CopyStep(sources=(CopySource(bench.root, "", ("a",)),), destination="/a"))
        )

    bench.run(work, tags=["s"])
    assert anyio.run(bench.host.images.get, "s").image.architecture == "arm64"


def test_a_bad_tag_fails_before_any_work(bench):
    async def work(services):
        raise AssertionError

    with pytest.raises(InvalidArgument, match="lowercase"):
        bench.run(work, tags=["UPPER"])
    with pytest.raises(Unsupported, match="squash"):
        bench.run(work, squash=True)


def test_a_context_directory_is_private_and_goes(bench):
    async def use():
        async with bench.service.context_directory() as directory:
            assert directory.stat().st_mode & 0o777 == 0o700
            (directory / "f").write_text("x")
            await bench.service.unpack_context(0, directory)

    anyio.run(use)
    assert bench.leftovers() == []
    assert bench.files.calls == ["unpack_archive"]


def test_downloads(bench):
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path.startswith("/good") else 404)
            self.send_header("Last-Modified", "Thu, 01 Jan 1970 00:01:40 GMT")
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    bench.import_image()

    async def work(services):
        place = await services.download(f"{address}/good/a%20b?x=1")
        file = place / "a b"
        assert file.read_bytes() == b"content"
        assert (file.stat().st_mode & 0o777, file.stat().st_mtime) == (0o600, 100)
        with pytest.raises(NotFound, match="the server answered 404"):
            await services.download(f"{address}/bad")
        return await services.finish(await services.image("base", "", False))

    try:
        bench.run(work)
    finally:
        server.shutdown()
    assert bench.leftovers() == []
