"""Carries a plan out, step by step, in the words of the classic builder.

A step's key is a digest of the state it starts from (its key and its file system) and of all that the step
depends on. Whatever is found under that key is taken as it is, times included: the same build gives the same image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from hooper.api.builder import BuildRequest, BuildServices, BuildState, Progress, RunStep
from hooper.api.errors import HooperError
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.arguments import Arguments
from hooper_builder_dockerfile.configure import configure, working_directory
from hooper_builder_dockerfile.copying import copy_step
from hooper_builder_dockerfile.faults import Fault, Location
from hooper_builder_dockerfile.parser import parse_one
from hooper_builder_dockerfile.plan import Plan, Stage, find_stage
from hooper_builder_dockerfile.scope import Scope, extended
from hooper_builder_dockerfile.scripts import run_command
from hooper_builder_dockerfile.sources import Sources


class Executor:
    def __init__(
        self,
        request: BuildRequest,
        services: BuildServices,
        progress: Progress,
        *,
        arguments: Arguments,
        sources: Sources,
        escape: str,
    ) -> None:
        self._request, self._services, self._progress = request, services, progress
        self._arguments, self._sources, self._escape = arguments, sources, escape
        self._done: dict[int, Scope] = {}
        self._images: dict[tuple[str, str], BuildState] = {}
        self._all: tuple[Stage, ...] = ()
        self._step, self._steps = 0, 0

    async def carry_out(self, plan: Plan) -> Scope:
        """Returns the target stage as it is at its end."""
        self._all, self._steps = plan.all_stages, plan.steps
        target = plan.stages[-1]
        labels = _labels(self._request.labels, Location(target.start.location.file, target.start.location.line))
        self._steps += len(labels)
        for argument in plan.before:
            await self._announce(argument)
        for stage in plan.stages:
            await self._stage(stage, labels if stage is target else ())
        return self._done[target.index]

    # --- stages ---------------------------------------------------------------------------------------

    async def _stage(self, stage: Stage, labels: Sequence[ins.Instruction]) -> Scope:
        await self._announce(stage.start)
        scope = await self._base(stage)
        await self._say(f" ---> {_short(scope.state)}\n")
        await self._triggers(stage, scope)
        for step in (*stage.steps, *labels):
            await self._announce(step)
            await self._carry_out(step, stage, scope)
        self._done[stage.index] = scope
        return scope

    async def _base(self, stage: Stage) -> Scope:
        platform = stage.platform or self._request.platform
        if stage.base_stage is not None:
            earlier = self._done[stage.base_stage]
            return Scope(earlier.state, self._escape, platform, author=earlier.author)
        if stage.base == "scratch":
            return Scope(await self._services.scratch(platform), self._escape, platform)
        try:
            return Scope(await self._image(stage.base, platform), self._escape, platform)
        except HooperError as error:
            error.what = f"{stage.start.location}: {error.what}"
            raise

    async def _image(self, reference: str, platform: str) -> BuildState:
        found = self._images.get((reference, platform))
        if found is None:
            found = await self._services.image(reference, platform, self._request.pull)
            self._images[reference, platform] = found
        return found

    async def _triggers(self, stage: Stage, scope: Scope) -> None:
        triggers = scope.state.config.on_build
        if not triggers:
            return
        scope.state = replace(scope.state, config=replace(scope.state.config, on_build=None))
        await self._say(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}\n")
        for text in triggers:
            step = parse_one(text, stage.start.location)
            await self._carry_out(step, stage, scope)

    # --- steps ----------------------------------------------------------------------------------------

    async def _announce(self, step: ins.Instruction) -> None:
        self._step += 1
        await self._say(f"Step {self._step}/{self._steps} : {step.shown}\n")

    async def _say(self, text: str) -> None:
        await self._progress.stream(text)

    async def _carry_out(self, step: ins.Instruction, stage: Stage, scope: Scope) -> None:
        try:
            if isinstance(step, ins.Run):
                await self._run(step, scope)
            elif isinstance(step, ins.Transfer):
                await self._transfer(step, stage, scope)
            elif isinstance(step, ins.Workdir):
                await self._workdir(step, scope)
            else:
                await self._configure(step, scope)
        except Fault as fault:
            raise step.location.error(fault.why, fault.remedy) from fault
        except HooperError as error:
            # Of a command that ran, clients know the engine's words by heart.
            if not isinstance(step, ins.Run) and not error.what.startswith(f"{step.location}"):
                error.what = f"{step.location}: {error.what}"
            raise
        await self._say(f" ---> {_short(scope.state)}\n")

    async def _configure(self, step: ins.Instruction, scope: Scope) -> None:
        if isinstance(step, ins.Arg):
            config, words = scope.state.config, f" {self._declare(step, scope)}"
        else:
            before = scope.state.config.healthcheck
            configured = configure(step, scope)
            if configured is None:
                raise Fault(f"{step.shown} cannot stand here", "Begin a stage with FROM.")
            config, words = configured
            if isinstance(step, ins.HealthcheckSetting) and before and before.test:
                await self._say(f"Note: overriding previous HEALTHCHECK: [{' '.join(before.test)}]\n")
        created_by = scope.nothing_run(words)

        async def make(state: BuildState) -> BuildState:
            return replace(state, config=config)

        await self._cached_or(scope, ["config", msgspec.json.encode(config).decode()], created_by, make)

    def _declare(self, step: ins.Arg, scope: Scope) -> str:
        for name, default in step.arguments:
            value = self._arguments.stage_value(name, None if default is None else scope.expand(default))
            if value is not None:
                scope.arguments[name] = value
        return step.shown

    async def _workdir(self, step: ins.Workdir, scope: Scope) -> None:
        path = working_directory(step, scope)
        config = replace(scope.state.config, working_dir=path)

        async def make(state: BuildState) -> BuildState:
            return replace(await self._services.make_directory(state, path, ""), config=config)

        await self._cached_or(scope, ["workdir", path], scope.nothing_run(f"WORKDIR {path}"), make)

    async def _run(self, step: ins.Run, scope: Scope) -> None:
        args = run_command(step, scope.shell())
        config, given = scope.state.config, scope.run_arguments()
        prefix = f"|{len(given)} " + "".join(f"{name}={value} " for name, value in given.items()) if given else ""
        hidden = scope.environment()
        proxies = {n: v for n, v in self._arguments.proxies().items() if n not in hidden and n not in given}
        run = RunStep(
            args=args,
            env=(*(config.env or ()), *(f"{name}={value}" for name, value in {**proxies, **given}.items())),
            cwd=config.working_dir or "/",
            user=config.user,
            network_mode=step.network,
        )

        async def make(state: BuildState) -> BuildState:
            return await self._services.run(state, run)

        await self._cached_or(
            scope, ["run", args, sorted(given.items()), step.network], prefix + " ".join(args), make, container=True
        )

    async def _transfer(self, step: ins.Transfer, stage: Stage, scope: Scope) -> None:
        chain = await self._source_chain(step, stage) if step.source_stage else None
        found = await self._sources.find(step, scope, chain)
        copy, words = copy_step(step, scope, found)

        async def make(state: BuildState) -> BuildState:
            return await self._services.copy(state, copy)

        inputs = [
            step.keyword, [(item.kind, item.digest) for item in found],
            copy.destination, copy.chown, copy.chmod, copy.keep_owner, copy.unpack,
        ]  # fmt: skip
        await self._cached_or(scope, inputs, scope.nothing_run(words), make)

    async def _source_chain(self, step: ins.Transfer, stage: Stage) -> str:
        source = find_stage(self._all[: stage.index], step.source_stage)
        if source is None and step.source_stage.isdigit():
            raise Fault(
                f"invalid from flag value {step.source_stage}: index out of bounds",
                f"Earlier stages have the numbers 0 to {stage.index - 1}." if stage.index else "No stage is earlier.",
            )
        if source is None:
            return (await self._copied_image(step, stage)).chain
        if source.index not in self._done:
            raise Fault(
                f"the trigger of {stage.base} copies from stage {step.source_stage}, which nothing else needs",
                "Name that stage with COPY --from in this Dockerfile as well.",
            )
        return self._done[source.index].state.chain

    async def _copied_image(self, step: ins.Transfer, stage: Stage) -> BuildState:
        try:
            return await self._image(step.source_stage, stage.platform or self._request.platform)
        except HooperError as error:
            names = ", ".join(s.start.name for s in self._all[: stage.index] if s.start.name) or "none has a name"
            error.what = f"invalid from flag value {step.source_stage}: {error.what}"
            error.remedy = f"No earlier stage is named {step.source_stage} either (there are: {names})."
            raise

    # --- the cache ------------------------------------------------------------------------------------

    async def _cached_or(
        self,
        scope: Scope,
        inputs: Sequence[object],
        created_by: str,
        make: Callable[[BuildState], Awaitable[BuildState]],
        *,
        container: bool = False,
    ) -> None:
        before = scope.state
        key = _key(before, inputs, created_by)
        cached = None if self._request.no_cache else await self._services.cached(key)
        if cached is not None:
            scope.state = cached
            await self._say(" ---> Using cache\n")
            return
        if container:
            await self._say(f" ---> Running in {key[:12]}\n")
        made = await make(before)
        scope.state = extended(
            made,
            key=key,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            created_by=created_by,
            empty_layer=len(made.diff_ids) == len(before.diff_ids),
        )
        await self._services.remember(scope.state)
        if container and self._request.remove:
            await self._say(f"Removing intermediate container {key[:12]}\n")


def _key(state: BuildState, inputs: Sequence[object], created_by: str) -> str:
    return hashlib.sha256(msgspec.json.encode((state.key, state.chain, inputs, created_by))).hexdigest()


def _short(state: BuildState) -> str:
    """Twelve digits: of the image while the state is one, else of its key."""
    return (state.image_id.removeprefix("sha256:") or state.key)[:12]


def _labels(labels: dict[str, str], location: Location) -> tuple[ins.Instruction, ...]:
    """The labels that the caller gave, as the last step. Their values are not expanded again."""
    if not labels:
        return ()
    pairs = tuple((_literal(name), _literal(value)) for name, value in sorted(labels.items()))
    shown = "LABEL " + " ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return (ins.Label(location=location, shown=shown, pairs=pairs),)


def _literal(text: str) -> str:
    """Quoted so that expansion gives the text back."""
    return "'" + text.replace("'", "'\"'\"'") + "'"
