"""From a TOML recipe to a plan."""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Sequence

import msgspec

from hooper.api.build_graph import CacheMount, Copy, CopySource, ImageSource, LocalSource, MakeDirectory, Node, Run
from hooper.api.builder import Builder, BuildRequest, BuildServices, BuildWarning, HistoryStep, Plan
from hooper.api.errors import InvalidArgument
from hooper.api.model import ImageConfig

MAIN = "main"


class StepTable(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from"}):
    """[[step]]: a command, or files to copy."""

    run: str = ""
    cache: list[str] = []
    copy: list[str] = []
    to: str = ""
    source: str = ""
    """A stage's name; "" is the context."""


class StageTable(msgspec.Struct, forbid_unknown_fields=True, rename={"base": "from"}):
    base: str
    step: list[StepTable] = []
    workdir: str = "/"
    env: dict[str, str] = {}


class RecipeTable(StageTable, forbid_unknown_fields=True, rename={"base": "from"}):
    cmd: list[str] = []
    user: str = ""
    labels: dict[str, str] = {}
    stage: dict[str, StageTable] = {}


class RecipeBuilder(Builder):
    async def plan(self, request: BuildRequest, services: BuildServices) -> Plan:
        """See Builder."""
        file = request.recipe or "recipe.toml"
        text = await services.read(file)
        if text is None:
            raise InvalidArgument(file, "there is no such file in the context", "Name the recipe with -f.")
        recipe = parse(text, file)
        services.ignore([file], file)
        return await _Planner(request, services, recipe, file).plan()

    async def check(self, request: BuildRequest, services: BuildServices) -> Sequence[BuildWarning]:
        """See Builder. Nothing in this language is doubtful: it is right or an error."""
        parse(await services.read(request.recipe) or b"", request.recipe)
        return ()


def parse(text: bytes, file: str) -> RecipeTable:
    """InvalidArgument names what is wrong."""
    try:
        table = tomllib.loads(text.decode())
        return msgspec.convert(table, RecipeTable)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidArgument(file, str(error), "See the README for what a recipe may hold.") from error


class _Planner:
    def __init__(self, request: BuildRequest, services: BuildServices, recipe: RecipeTable, file: str) -> None:
        self._request, self._services, self._recipe, self._file = request, services, recipe, file
        self._context = LocalSource(name="context")
        self._done: dict[str, Node] = {}
        self._steps: list[HistoryStep] = []

    async def plan(self) -> Plan:
        config, base, node = await self._stage(MAIN, self._recipe, ())
        recipe = self._recipe
        config = msgspec.structs.replace(
            config,
            cmd=recipe.cmd or config.cmd,
            user=recipe.user or config.user,
            labels={**(config.labels or {}), **recipe.labels, **self._request.labels} or None,
        )
        resolved = await self._services.image(recipe.base)
        return Plan(
            result=node, config=config, steps=self._steps, stages=[MAIN], base=base,
            architecture=resolved.architecture, variant=resolved.variant,
        )  # fmt: skip

    async def _stage(
        self, name: str, table: StageTable, within: tuple[str, ...]
    ) -> tuple[ImageConfig, ImageSource, Node]:
        image = await self._services.image(table.base, self._request.platform, self._request.pull)
        node: Node = image.node
        self._tell(f"from {table.base}", name, node, trace=False)
        env = [*(image.config.env or ()), *(f"{key}={value}" for key, value in table.env.items())]
        config = msgspec.structs.replace(image.config, env=env, working_dir=table.workdir)
        if table.workdir != "/":
            node = MakeDirectory(base=node, path=table.workdir, name=f"[{name}] workdir {table.workdir}")
            self._tell(f"workdir {table.workdir}", name, node)
        for step in table.step:
            node = await self._step(step, name, node, config, (*within, name))
        return config, image.node, node

    async def _step(
        self, step: StepTable, stage: str, base: Node, config: ImageConfig, within: tuple[str, ...]
    ) -> Node:
        if bool(step.run) == bool(step.copy):
            raise InvalidArgument(self._file, "a step has `run` or `copy`, one of them", "Split it in two.")
        if step.run:
            shown = f"run {step.run}"
            node: Node = Run(
                base=base,
                args=("/bin/sh", "-c", step.run),
                env=tuple(config.env or ()),
                cwd=config.working_dir or "/",
                user=config.user,
                mounts=tuple(CacheMount(target=path, id=path) for path in step.cache),
                name=f"[{stage}] {shown}",
                fresh=self._request.no_cache,
            )
        else:
            shown = f"copy {' '.join(step.copy)}"
            node = Copy(
                base=base,
                sources=(await self._source(step, within),),
                destination=posixpath.join(config.working_dir or "/", step.to or "./"),
                keep_owner=bool(step.source),
                name=f"[{stage}] {shown}",
                fresh=self._request.no_cache,
            )
        self._tell(shown, stage, node)
        return node

    async def _source(self, step: StepTable, within: tuple[str, ...]) -> CopySource:
        if not step.source:
            return CopySource(node=self._context, paths=tuple(step.copy), shown="context")
        if step.source in within:
            raise InvalidArgument(self._file, f"stage {step.source} needs itself", "Break the circle.")
        if step.source not in self._done:
            table = self._recipe.stage.get(step.source)
            if table is None:
                there = ", ".join(self._recipe.stage) or "none"
                raise InvalidArgument(self._file, f"there is no stage {step.source}", f"Stages: {there}.")
            self._done[step.source] = (await self._stage(step.source, table, within))[2]
        return CopySource(node=self._done[step.source], paths=tuple(step.copy), shown=f"stage {step.source}")

    def _tell(self, shown: str, stage: str, node: Node, *, trace: bool = True) -> None:
        self._steps.append(HistoryStep(shown=shown, stage=stage, created_by=shown if trace else "", node=node))


