"""What each kind of node means: its key, and how it is carried out on snapshots, files and containers."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from hooper.api import build_graph as graph
from hooper.api.build_graph import Node
from hooper.api.build_session import BuildSession
from hooper.api.builder import BuildRequest
from hooper.api.errors import HooperError, Internal, StepFailed
from hooper.api.storage import Mount
from hooper.engine.build_cache import BuildCache
from hooper.engine.build_files import BuildFiles, Place
from hooper.engine.build_image import Made
from hooper.engine.build_layers import BuildLayers
from hooper.engine.build_sources import Selection, Tree, select
from hooper.engine.clock import rfc3339
from hooper.engine.layers import Layer, LayerStore, chain_id
from hooper.engine.solver import Output, Result, Results

LINKED = "linked"


class Runner(Protocol):
    """Runs the commands of steps in containers."""

    async def init_layer(self, chain: str) -> str:
        """The committed snapshot to prepare a step's own on: the file system with mount points added."""

    async def run_step(
        self,
        mounts: Sequence[Mount],
        run: graph.Run,
        *,
        request: BuildRequest,
        session: BuildSession,
        sources: Mapping[Node, Place],
        output: Output,
        contents: Mapping[Node, str] | None = None,
    ) -> int:
        """The exit code of the command. Nothing of its container is left, also when cancelled."""


class Fetch(Protocol):
    """Gets the trees that are no layers."""

    async def tree(self, node: Node) -> Tree:
        """Of a LocalSource, HttpSource, GitSource or InlineSource; it lasts as long as the build."""


class Remote(Protocol):
    """Finished steps that are elsewhere."""

    async def find(self, key: str, node: Node, base: Made) -> Made | None: ...


class Operations:
    """`Work` of the solver, for one build."""

    def __init__(
        self,
        request: BuildRequest,
        session: BuildSession,
        *,
        layers: BuildLayers,
        store: LayerStore,
        cache: BuildCache,
        remote: Remote | None,
        files: BuildFiles,
        runner: Runner,
        fetch: Fetch,
        clamp: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """`clamp` sets the later times of what a snapshot changes to so many seconds since the epoch."""
        self._request, self._session, self._layers, self._store = request, session, layers, store
        self._cache, self._remote, self._files, self._runner, self._fetch = cache, remote, files, runner, fetch
        self._clamp = clamp
        self._trees: dict[Node, Tree] = {}
        self._selections: dict[tuple[Node, int], Selection] = {}
        self._mounted: dict[Node, str] = {}
        self.keys: dict[Node, str] = {}

    # --- keys -----------------------------------------------------------------------------------------

    async def key(self, node: Node, results: Results) -> str:
        """See solver.Work."""
        match node:
            case graph.Run():
                key = _digest("run", *await self._run_inputs(node, results))
            case graph.Copy():
                key = _digest("copy", *await self._copy_inputs(node, results))
            case graph.MakeDirectory():
                key = _digest("directory", _made(results, node.base).chain, node.path, node.user, self._epoch)
            case _:
                return ""
        self.keys[node] = key
        return key

    @property
    def _epoch(self) -> int | None:
        return self._request.source_date_epoch

    async def _run_inputs(self, run: graph.Run, results: Results) -> list[object]:
        mounts: list[object] = []
        for mount in run.mounts:
            fields = {
                name: value for name, value in msgspec.structs.asdict(mount).items() if name not in ("source", "path")
            }
            digest = ""
            if isinstance(mount, graph.BindMount | graph.CacheMount) and mount.source is not None:
                source = graph.CopySource(node=mount.source, paths=(mount.path,), literal=True)
                digest = await self._digest_of(source, results)
                self._mounted[mount.source] = digest
            mounts.append((type(mount).__name__, sorted(fields.items()), digest))
        network = run.network or self._request.network_mode
        return [
            _made(results, run.base).chain, run.args, run.env, run.cwd, run.user, run.hostname, network,
            run.insecure, sorted(self._request.extra_hosts), mounts, self._epoch,
        ]  # fmt: skip

    async def _copy_inputs(self, step: graph.Copy, results: Results) -> list[object]:
        base = LINKED if _linked(step) else _made(results, step.base).chain
        found = [
            await self._digest_of(source, results, step=step, number=number)
            for number, source in enumerate(step.sources)
        ]
        return [
            base, found, step.destination, step.chown, step.chmod, step.keep_owner, step.unpack, step.parents,
            step.exclude, self._epoch,
        ]  # fmt: skip

    async def _digest_of(
        self, source: graph.CopySource, results: Results, *, step: graph.Copy | None = None, number: int = 0
    ) -> str:
        """Of the files that a copy or a mount uses. What is known of a layer's files is not looked at again."""
        made = results[source.node]
        parents, exclude = (step.parents, step.exclude) if step else (False, ())
        known = ""
        if isinstance(made, Made):
            known = _digest("files", made.chain, source.paths, source.literal, parents, exclude)
            if digest := self._cache.digest(known):
                return digest
        selection = await self._selected(source, results, step)
        if step is not None:
            self._selections[step, number] = selection
        if isinstance(made, Made):
            self._cache.keep_digest(known, made.chain, selection.digest)
        return selection.digest

    async def _selected(self, source: graph.CopySource, results: Results, step: graph.Copy | None) -> Selection:
        parents, exclude = (step.parents, step.exclude) if step else (False, ())
        keyword = _keyword(step) if step else ""
        tree = self._tree(source.node, results)
        return await select(tree, source, parents=parents, exclude=exclude, keyword=keyword)

    def _tree(self, node: Node, results: Results) -> Tree:
        result = results[node]
        if isinstance(result, Tree):
            return result
        if node not in self._trees:
            self._trees[node] = Tree.of_chain(result.chain, self._layers.view, self._files)
        return self._trees[node]

    def _content(self, node: Node, results: Results) -> str:
        """A digest of a source of mounts: what a cache mount begins with tells it apart from others."""
        made = results[node]
        return made.chain if isinstance(made, Made) else self._mounted.get(node, "")

    # --- the cache ------------------------------------------------------------------------------------

    async def recall(self, key: str, node: Node, results: Results) -> Made | None:
        """See solver.Work."""
        assert isinstance(node, graph.Step)
        base = _made(results, node.base)
        kept = self._cache.get(key)
        if kept is None:
            found = await self._remote.find(key, node, base) if self._remote is not None else None
            if found is None:
                return None
            self._layers.hold(found.chain)
            self._keep(key, node, found)
            if isinstance(node, graph.Copy) and _linked(node):
                return await self._relinked(found.chain, found.diff_ids[-1], found.created, base)
            return found
        if isinstance(node, graph.Copy) and _linked(node):
            return await self._relinked(kept.chain, kept.diff_id, kept.created, base)
        self._layers.hold(kept.chain)
        diff_ids = (*base.diff_ids, kept.diff_id) if kept.added else base.diff_ids
        return Made(chain=kept.chain, diff_ids=diff_ids, created=kept.created, added=kept.added)

    async def _relinked(self, chain: str, diff_id: str, created: str, base: Made) -> Made:
        """The topmost layer of `chain` on another base."""
        target = chain_id(base.chain, diff_id)
        self._layers.hold(target)
        if target != chain and self._store.get(target) is None:
            await self._layers.restack(chain, base.chain)
        return Made(chain=target, diff_ids=(*base.diff_ids, diff_id), created=created, added=True)

    def _keep(self, key: str, node: graph.Step, made: Made) -> None:
        parent = self.keys.get(node.base, "")
        self._cache.put(
            key, made.chain, parent=parent, description=node.name, created=made.created, added=made.added
        )  # fmt: skip

    # --- doing it -------------------------------------------------------------------------------------

    async def perform(self, key: str, node: Node, results: Results, output: Output) -> Result:
        """See solver.Work."""
        match node:
            case graph.Scratch():
                return Made(chain="", diff_ids=(), created="", added=False)
            case graph.ImageSource():
                diff_ids = tuple(layer.diff_id for layer in self._store.ancestry(node.chain))
                return Made(chain=node.chain, diff_ids=diff_ids, created="", added=False)
            case graph.Step():
                made = await self._step(node, results, output)
                self._keep(key, node, made)
                return made
            case _:
                return await self._fetch.tree(node)

    async def _step(self, node: graph.Step, results: Results, output: Output) -> Made:
        base = _made(results, node.base)
        match node:
            case graph.Run():
                layer = await self._run(node, base, results, output)
            case graph.Copy():
                layer = await self._copy(node, base, results)
            case graph.MakeDirectory():
                found = await self._make_directory(node, base)
                if found is None:
                    return msgspec.structs.replace(base, added=False)
                layer = found
            case _:
                raise Internal(f"cannot carry out {node.name}", f"{type(node).__name__} is no step of this engine")
        return Made(chain=layer.chain_id, diff_ids=(*base.diff_ids, layer.diff_id), created=rfc3339(), added=True)

    async def _run(self, run: graph.Run, base: Made, results: Results, output: Output) -> Layer:
        sources: dict[Node, Place] = {}
        for node in run.inputs():
            if node is not run.base:
                sources[node] = await self._tree(node, results).place()
        if run.base in {getattr(mount, "source", None) for mount in run.mounts}:
            sources[run.base] = await self._tree(run.base, results).place()
        contents = {node: self._content(node, results) for node in sources}
        parent = await self._runner.init_layer(base.chain)
        async with self._layers.snapshot(parent) as (key, mounts):
            code = await self._runner.run_step(
                mounts,
                run,
                request=self._request,
                session=self._session,
                sources=sources,
                output=output,
                contents=contents,
            )
            if code:
                what = f"The command '{' '.join(run.args)}' returned a non-zero code: {code}"
                raise StepFailed(what, exit_code=code)
            await self._clamped(key)
            return await self._layers.keep_onto(key, base.chain)

    async def _copy(self, step: graph.Copy, base: Made, results: Results) -> Layer:
        chosen = []
        for number, source in enumerate(step.sources):
            selection = self._selections.get((step, number))
            if selection is None:
                selection = await self._selected(source, results, step)
            chosen.append((await self._tree(source.node, results).place(), selection))
        async with self._layers.snapshot("" if _linked(step) else base.chain) as (key, mounts):
            await self._files.copy(mounts, chosen, step)
            await self._clamped(key)
            if _linked(step):
                return await self._layers.keep_onto(key, base.chain)
            return await self._layers.keep(key, base.chain)

    async def _make_directory(self, step: graph.MakeDirectory, base: Made) -> Layer | None:
        async with self._layers.snapshot(base.chain) as (key, mounts):
            if await self._files.make_directory(mounts, step.path, step.user):
                await self._clamped(key)
                return await self._layers.keep(key, base.chain)
            await self._layers.discard(key)
            return None

    async def _clamped(self, snapshot: str) -> None:
        if self._epoch is not None:
            await self._clamp(snapshot, self._epoch)


def _made(results: Results, node: Node) -> Made:
    result = results[node]
    if not isinstance(result, Made):
        raise Internal(f"cannot build on {node.name}", "it is no file system")
    return result


def _keyword(step: graph.Copy) -> str:
    """What a person wrote: COPY or ADD, the first word after "[stage 1/2] "."""
    words = step.name.rpartition("] ")[2].split()
    return words[0] if words and words[0] in ("COPY", "ADD") else ""


def _linked(step: graph.Copy) -> bool:
    """Whether the layer is independent of the base: an owner's name is looked up there."""
    return step.link and (not step.chown or step.chown.replace(":", "").isdigit())


def _digest(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def placed(error: HooperError, node: Node) -> HooperError:
    """The error, naming where the node was written. Of a command that ran, clients know the words by heart."""
    if node.origin is not None and not isinstance(error, StepFailed) and not error.what.startswith(f"{node.origin}"):
        error.what = f"{node.origin}: {error.what}"
    return error
