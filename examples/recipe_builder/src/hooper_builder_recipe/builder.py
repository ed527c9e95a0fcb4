"""From a TOML recipe to a plan."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from hooper.api.build_graph import CacheMount, Copy, CopySource, LocalSource, MakeDirectory, Node, Run
from hooper.api.builder import Builder, BuildRequest, BuildServices, BuildWarning, HistoryStep, Plan, ResolvedImage
from hooper.api.errors import NotFound
from hooper.api.model import ImageConfig
from hooper.api.patterns import parse_ignore_file
from hooper_builder_recipe.recipe import MAIN, Recipe, StageTable, StepTable

USUAL = "recipe.toml"
IGNORE_FILE = ".dockerignore"


class RecipeBuilder(Builder):
    async def plan(self, request: BuildRequest, services: BuildServices) -> Plan:
        """See Builder."""
        recipe = await _read(request, services)
        ignored = await services.read(IGNORE_FILE) or b""
        patterns = parse_ignore_file(ignored.decode("utf-8", "surrogateescape"), IGNORE_FILE)
        # The recipe itself is nothing to copy.
        services.ignore([*patterns, recipe.file], IGNORE_FILE)
        return await _Planner(request, services, recipe).plan()

    async def check(self, request: BuildRequest, services: BuildServices) -> Sequence[BuildWarning]:
        """See Builder. Nothing in this language is doubtful: it is right or an error.

        What comes after an image that is not here, and is not pulled for a check, is not looked at.
        """
        planner = _Planner(msgspec.structs.replace(request, pull=False), services, await _read(request, services))
        with suppress(NotFound):
            await planner.plan()
        return ()


async def _read(request: BuildRequest, services: BuildServices) -> Recipe:
    file = request.recipe or USUAL
    content = await services.read(file)
    if content is None:
        raise NotFound(f"Cannot locate the recipe: {file}", remedy="Name it with -f, relative to the context.")
    return Recipe(content, file)


class _Stage(NamedTuple):
    """A stage that is planned."""

    name: str
    image: ResolvedImage
    """Where it began, perhaps by way of other stages."""
    config: ImageConfig
    node: Node
    lineage: tuple[str, ...]
    """Its own name, and before it those of the stages that it stands on."""


class _Planner:
    """For one plan. Stages are planned when something needs them, and so cost nothing otherwise."""

    def __init__(self, request: BuildRequest, services: BuildServices, recipe: Recipe) -> None:
        self._request, self._services, self._recipe = request, services, recipe
        self._stages: dict[str, _Stage] = {}
        self._contexts: dict[str, LocalSource] = {}
        self._steps: list[HistoryStep] = []

    async def plan(self) -> Plan:
        target = self._request.target or MAIN
        if target not in self._recipe.stages:
            raise self._recipe.error(0, f'there is no stage "{target}" to build', self._known())
        stage = await self._stage(target, ())
        labels = {**(stage.config.labels or {}), **self._request.labels}
        return Plan(
            result=stage.node,
            config=msgspec.structs.replace(stage.config, labels=labels or None),
            steps=self._steps,
            stages=stage.lineage,
            base=stage.image.node,
            architecture=stage.image.architecture,
            variant=stage.image.variant,
            author=stage.image.author,
            notes=[f"This kind of recipe has no arguments: {name} is not used." for name in self._request.build_args],
        )

    def _known(self) -> str:
        return f"There are: {', '.join(self._recipe.stages)}."

    async def _stage(self, name: str, within: tuple[str, ...]) -> _Stage:
        """Planned once, whatever needs it. `within` are the stages that wait for it."""
        if name in within:
            raise self._recipe.error(
                self._recipe.line(name), f'stage "{name}" needs itself, by {" and ".join(within)}', "Break the circle."
            )
        if name not in self._stages:
            self._stages[name] = await self._planned(name, self._recipe.stages[name], (*within, name))
        return self._stages[name]

    async def _planned(self, name: str, table: StageTable, within: tuple[str, ...]) -> _Stage:
        if table.base in self._recipe.stages:
            below = await self._stage(table.base, within)
            image, config, node, lineage = below.image, below.config, below.node, below.lineage
        else:
            image = await self._services.image(table.base, self._request.platform, self._request.pull)
            config, node, lineage = image.config, image.node, ()
        self._tell(f"from {table.base}", name, node, self._recipe.line(name), traced=False)
        config = table.applied_to(config)
        if table.workdir:
            node = self._directory(name, node, config)
        for number, step in enumerate(table.step):
            node = await self._step(step, name, node, config, self._recipe.line(name, number), within)
        return _Stage(name, image, table.finished(config), node, (*lineage, name))

    # --- steps --------------------------------------------------------------------------------------

    def _directory(self, stage: str, base: Node, config: ImageConfig) -> Node:
        shown, line = f"workdir {config.working_dir}", self._recipe.line(stage)
        node = MakeDirectory(
            base=base,
            path=config.working_dir,
            name=f"[{stage}] {shown}",
            origin=self._recipe.origin(line),
            fresh=self._is_fresh(stage),
        )
        self._tell(shown, stage, node, line)
        return node

    async def _step(
        self, step: StepTable, stage: str, base: Node, config: ImageConfig, line: int, within: tuple[str, ...]
    ) -> Node:
        shown, origin = step.shown, self._recipe.origin(line)
        if step.run:
            node: Node = Run(
                base=base,
                args=("/bin/sh", "-c", step.run),
                env=tuple(config.env or ()),
                cwd=config.working_dir or "/",
                user=config.user,
                mounts=tuple(CacheMount(target=path, id=path) for path in step.cache),
                name=f"[{stage}] {shown}",
                origin=origin,
                fresh=self._is_fresh(stage),
            )
        else:
            node = Copy(
                base=base,
                sources=(await self._source(step, line, within),),
                destination=_destination(config.working_dir or "/", step.to),
                keep_owner=bool(step.source),
                name=f"[{stage}] {shown}",
                origin=origin,
                fresh=self._is_fresh(stage),
            )
        self._tell(shown, stage, node, line)
        return node

    def _is_fresh(self, stage: str) -> bool:
        return self._request.no_cache or stage in self._request.no_cache_stages

    async def _source(self, step: StepTable, line: int, within: tuple[str, ...]) -> CopySource:
        """What is copied from: the context, another stage, or a context that the request has given a name."""
        name, paths = step.source, tuple(step.copy)
        if not name:
            return CopySource(node=self._context(""), paths=paths, shown="context")
        if name in self._recipe.stages:
            stage = await self._stage(name, within)
            return CopySource(node=stage.node, paths=paths, shown=f"stage {name}")
        named = self._services.named_context(name)
        if named is not None and named.kind == "local":
            return CopySource(node=self._context(name), paths=paths, shown=f"context {name}")
        raise self._recipe.error(line, f'there is no stage "{name}" to copy from', self._known())

    def _context(self, name: str) -> LocalSource:
        if name not in self._contexts:
            self._contexts[name] = LocalSource(context=name, name=f"context {name}".rstrip())
        return self._contexts[name]

    def _tell(self, shown: str, stage: str, node: Node, line: int, *, traced: bool = True) -> None:
        self._steps.append(
            HistoryStep(
                shown=shown,
                stage=stage,
                created_by=shown if traced else "",
                node=node,
                origin=self._recipe.origin(line),
            )
        )


def _destination(directory: str, to: str) -> str:
    """Absolute; what ends in "/" is a directory, as the present one is."""
    return posixpath.join(directory, to or "./")
