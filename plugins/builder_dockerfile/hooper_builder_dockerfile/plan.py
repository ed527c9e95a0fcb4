"""Stages, and which of them a build needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from hooper.api.errors import InvalidArgument
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.arguments import Arguments
from hooper_builder_dockerfile.words import expand


@dataclass
class Stage:
    index: int
    start: ins.From
    base: str
    """The image, expanded; "scratch", or the name of an earlier stage."""
    platform: str
    base_stage: int | None = None
    steps: list[ins.Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    before: tuple[ins.Arg, ...]
    """The ARGs before the first FROM."""
    stages: tuple[Stage, ...]
    """Those that are needed, in order; the last is the target."""
    all_stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        return len(self.before) + sum(1 + len(stage.steps) for stage in self.stages)


def make_plan(recipe: ins.Recipe, arguments: Arguments, target: str, file: str) -> Plan:
    """InvalidArgument if an instruction stands before FROM, a base is empty, or the target is missing."""
    before: list[ins.Arg] = []
    stages: list[Stage] = []
    for instruction in recipe.instructions:
        if isinstance(instruction, ins.From):
            stages.append(_stage(instruction, stages, arguments, recipe.escape))
        elif stages:
            stages[-1].steps.append(instruction)
        elif isinstance(instruction, ins.Arg):
            before.append(instruction)
            _declare(instruction, arguments, recipe.escape)
        else:
            raise instruction.location.error(
                f"no build stage in current context: {instruction.shown.split()[0]} stands before FROM",
                "Only ARG may stand before the first FROM.",
            )
    if not stages:
        raise InvalidArgument(file, "no build stage: there is no FROM", "Begin with FROM IMAGE.")
    last = _target(stages, target, file)
    return Plan(tuple(before), _needed(stages, last), tuple(stages))


def find_stage(stages: list[Stage] | tuple[Stage, ...], name: str) -> Stage | None:
    """By name, in any case, or by number; the latest of a name."""
    for stage in reversed(stages):
        if stage.start.name and stage.start.name == name.lower():
            return stage
    if name.isascii() and name.isdigit():
        return next((stage for stage in stages if stage.index == int(name)), None)
    return None


def _declare(instruction: ins.Arg, arguments: Arguments, escape: str) -> None:
    for name, default in instruction.arguments:
        with instruction.location.blamed():
            value = None if default is None else expand(default, arguments.lookup_global, escape)
        arguments.declare_global(name, value)


def _stage(start: ins.From, earlier: list[Stage], arguments: Arguments, escape: str) -> Stage:
    with start.location.blamed():
        base = expand(start.image, arguments.lookup_global, escape)
        platform = expand(start.platform, arguments.lookup_global, escape)
    if not base:
        raise start.location.error(
            f"base name ({start.image}) should not be blank",
            "Give the ARG a default before FROM, or a value with --build-arg.",
        )
    named = next((s for s in reversed(earlier) if s.start.name and s.start.name == base.lower()), None)
    return Stage(len(earlier), start, base, platform, named.index if named else None)


def _target(stages: list[Stage], target: str, file: str) -> Stage:
    if not target:
        return stages[-1]
    found = find_stage(stages, target)
    if found is None:
        names = ", ".join(stage.start.name for stage in stages if stage.start.name) or "none has a name"
        raise InvalidArgument(
            file, f"failed to reach build target {target}: no stage has that name", f"Stages: {names}."
        )
    return found


def _needed(stages: list[Stage], last: Stage) -> tuple[Stage, ...]:
    wanted, todo = set[int](), [last]
    while todo:
        stage = todo.pop()
        if stage.index in wanted:
            continue
        wanted.add(stage.index)
        if stage.base_stage is not None:
            todo.append(stages[stage.base_stage])
        earlier = stages[: stage.index]
        for step in stage.steps:
            if isinstance(step, ins.Transfer) and (source := find_stage(earlier, step.source_stage)):
                todo.append(source)
    return tuple(stage for stage in stages if stage.index in wanted)
