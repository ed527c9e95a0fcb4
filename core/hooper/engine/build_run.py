"""One build, from its plan to its outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import msgspec

from hooper.api import build_events as events
from hooper.api import build_graph as graph
from hooper.api.build_graph import Node
from hooper.api.build_session import BuildSession
from hooper.api.builder import BuildRequest, HistoryStep, OutputSpec, Plan, Progress
from hooper.api.driver import Workers
from hooper.api.engine import BuildOutcome
from hooper.api.errors import HooperError, no_space
from hooper.api.model import Image
from hooper.api.storage import StorageDriver
from hooper.engine.build_cache import BuildCache
from hooper.engine.build_cache_formats import Record, with_inline
from hooper.engine.build_cache_plain import lineage
from hooper.engine.build_cache_remote import RemoteCache
from hooper.engine.build_export import Exporter
from hooper.engine.build_files import BuildFiles
from hooper.engine.build_image import Made, image_of
from hooper.engine.build_layers import BuildLayers
from hooper.engine.build_operations import Operations, Runner, placed
from hooper.engine.build_report import StepReport
from hooper.engine.build_services import Trees
from hooper.engine.build_squash import squash
from hooper.engine.build_times import clamp_times
from hooper.engine.clock import rfc3339
from hooper.engine.solver import Flights, Result, Solver

if TYPE_CHECKING:
    from hooper.engine.images import ImageService

IMAGE = OutputSpec("image")


class Workshop(NamedTuple):
    """What the engine has for all builds."""

    images: ImageService
    storage: StorageDriver
    workers: Workers
    runner: Runner
    files: BuildFiles
    cache: BuildCache


class BuildRun:
    def __init__(
        self,
        request: BuildRequest,
        progress: Progress,
        session: BuildSession,
        plan: Plan,
        *,
        shop: Workshop,
        layers: BuildLayers,
        trees: Trees,
    ) -> None:
        self._request, self._progress, self._session, self._plan = request, progress, session, plan
        self._shop, self._layers = shop, layers
        self._remote = RemoteCache(shop.images, layers, session, request.credentials, progress)
        self._operations = Operations(
            request,
            session,
            layers=layers,
            store=shop.images.layers,
            cache=shop.cache,
            remote=self._remote if request.cache_from else None,
            files=shop.files,
            runner=shop.runner,
            fetch=trees,
            clamp=partial(clamp_times, shop.storage, shop.workers),
        )

    async def carry_out(self, flights: Flights, limit: anyio.CapacityLimiter) -> BuildOutcome:
        """Raises the error of the step that fails first, with its place."""
        if self._request.cache_from:
            base = self._plan.base
            image = (await self._shop.images.get(base.image_id)).image if base is not None else None
            await self._remote.load(self._request.cache_from, lineage(self._plan, image))
        configured = ConfigurationSteps(self._plan, self._shop.cache, fresh=self._request.no_cache)
        report = StepReport(self._plan, self._progress, configured.seen)
        solver = Solver(self._operations, flights, limit, report)
        configured.results = solver.results
        await report.planned()
        try:
            await solver.solve(self._plan.result)
        except Exception as raised:
            error = no_space(raised) or raised
            if report.failed_node is not None and isinstance(error, HooperError):
                placed(error, report.failed_node)
            await self._tell_failure(report, solver.results, error)
            raise error from (None if error is raised else raised)
        outcome = await self._export(_file_systems(solver.results))
        for note in self._plan.notes:
            await self._progress.event(events.Noted(text=note))
        return outcome

    # --- failures -------------------------------------------------------------------------------------

    async def _tell_failure(self, report: StepReport, results: Mapping[Node, Result], error: Exception) -> None:
        failure = report.failure(error)
        if failure is None:
            return
        node = report.failed_node
        if self._request.debug and isinstance(node, graph.Run):
            base = results.get(node.base)
            if isinstance(base, Made):
                image_id = await self._state_before(node, base)
                failure = msgspec.structs.replace(failure, debug_image=image_id, debug_args=node.args)
        await self._progress.event(failure)

    async def _state_before(self, run: graph.Run, base: Made) -> str:
        """An image of what a command was run on, for a person to look into."""
        config = msgspec.structs.replace(
            self._plan.config,
            env=list(run.env),
            working_dir=run.cwd,
            user=run.user,
            entrypoint=None,
            cmd=["/bin/sh"],
            healthcheck=None,
            labels=None,
            volumes=None,
            on_build=None,
        )
        image = Image(
            architecture=self._plan.architecture, os="linux", variant=self._plan.variant, config=config,
            created=rfc3339(),
        )  # fmt: skip
        return await self._shop.images.create_image(image, base.chain)

    # --- outcomes -------------------------------------------------------------------------------------

    async def _export(self, results: Mapping[Node, Made]) -> BuildOutcome:
        plan, request = self._plan, self._request
        base = (await self._shop.images.get(plan.base.image_id)).image if plan.base is not None else None
        image = image_of(plan, results, base, epoch=request.source_date_epoch)
        made = results[plan.result]
        chain = made.chain
        if request.squash:
            image, chain = await squash(
                self._shop.images, self._layers, image, base, plan.base.image_id if plan.base else ""
            )
        records = self._records(results) if request.cache_to else []
        if any(spec.type == "inline" for spec in request.cache_to):
            image = with_inline(image, records)
        exporter = Exporter(self._shop.images, self._layers, self._shop.workers)
        outcome = BuildOutcome()
        for index, output in enumerate(request.outputs or [IMAGE]):
            exported = await exporter.export(
                output, image, chain, tags=request.tags, session=self._session, index=index, request=request,
                progress=self._progress,
            )  # fmt: skip
            await self._progress.event(exported)
            if exported.image_id:
                outcome = BuildOutcome(exported.image_id, exported.digest)
        await self._remote.store(request.cache_to, records, made)
        return outcome

    def _records(self, results: Mapping[Node, Made]) -> list[Record]:
        """The steps of this build, for other engines."""
        keys = self._operations.keys
        return [
            Record(
                key=key,
                diff_ids=results[node].diff_ids,
                created=results[node].created,
                added=results[node].added,
                parent=keys.get(node.base, "") if isinstance(node, graph.Step) else "",
                description=node.name,
            )
            for node, key in keys.items()
            if node in results
        ]


class ConfigurationSteps:
    """Remembers the steps that change no file, so that a person is told which were there before."""

    def __init__(self, plan: Plan, cache: BuildCache, *, fresh: bool) -> None:
        self._cache, self._fresh = cache, fresh
        self._steps = _prefixes(plan.steps)
        self.results: Mapping[Node, Result] = {}

    def seen(self, index: int) -> bool:
        """Whether this step was part of an earlier build, on the same file system and after the same steps."""
        step, words, node = self._steps[index]
        if not step.created_by:
            return False
        made = self.results.get(node) if node is not None else None
        chain = made.chain if isinstance(made, Made) else ""
        key = _digest("configuration", chain, words)
        if not self._fresh and self._cache.get(key) is not None:
            return True
        self._cache.put(key, chain, parent="", description=step.shown, created=rfc3339(), added=False)
        return False


def _prefixes(steps: Sequence[HistoryStep]) -> list[tuple[HistoryStep, str, Node | None]]:
    """Each step with a digest of it and of those before it in its stage, and the last file system of these."""
    stages: dict[str, tuple[str, Node | None]] = {}
    found = []
    for step in steps:
        words, node = stages.get(step.stage, ("", None))
        stages[step.stage] = words, node = _digest(words, step.created_by), step.node or node
        found.append((step, words, node))
    return found


def _digest(*words: str) -> str:
    return hashlib.sha256(msgspec.json.encode(words)).hexdigest()


def _file_systems(results: Mapping[Node, Result]) -> dict[Node, Made]:
    return {node: result for node, result in results.items() if isinstance(result, Made)}
