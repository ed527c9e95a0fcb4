"""Stages: where each begins, and what names in it mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hooper.api.errors import HooperError, InvalidArgument
from hooper.api.manifests import platform_name
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.arguments import Arguments, normalized
from hooper_builder_dockerfile.faults import Fault, nearest
from hooper_builder_dockerfile.words import expand

SCRATCH = "scratch"
_SHOWN = 20
"""Stages that an error lists."""


@dataclass(eq=False)
class Stage:
    index: int
    start: ins.From
    base: str
    """The image, expanded; "scratch", or the name of an earlier stage."""
    platform: str
    """As --platform of FROM has it, in full; "" is the build's."""
    base_stage: Stage | None = None
    label: str = ""
    """Its name, or its number if it has none, or shares it with another stage."""
    steps: list[ins.Instruction] = field(default_factory=list)
    triggers: list[ins.Instruction] | None = None
    """What the ONBUILDs of its base make it begin with. None: the base is not known yet."""

    @property
    def shown(self) -> str:
        return self.start.name or f"stage-{self.index}"

    def all_steps(self) -> Iterator[ins.Instruction]:
        yield from self.triggers or ()
        yield from self.steps


@dataclass(frozen=True)
class Reference:
    """A name in COPY --from or RUN --mount=from=."""

    name: str
    step: ins.Instruction


class Stages:
    """All stages of a recipe."""

    def __init__(self, recipe: ins.Recipe, arguments: Arguments) -> None:
        """InvalidArgument if an instruction stands before FROM, or a base or its platform cannot be."""
        self._recipe, self._arguments = recipe, arguments
        self.before: list[ins.Arg] = []
        """The ARGs before the first FROM."""
        self.all: list[Stage] = []
        self._by_name: dict[str, list[Stage]] = {}
        for instruction in recipe.instructions:
            self._add(instruction)
        if not self.all:
            raise InvalidArgument(recipe.file, "no build stage: there is no FROM", "Begin with FROM IMAGE.")
        for stage in self.all:
            unique = len(self._by_name.get(stage.start.name, ())) == 1
            stage.label = stage.start.name if unique else str(stage.index)

    def _add(self, instruction: ins.Instruction) -> None:
        if isinstance(instruction, ins.Arg):
            self._arguments.declared.update(name for name, _ in instruction.arguments)
        if isinstance(instruction, ins.From):
            stage = self._stage(instruction)
            self.all.append(stage)
            if stage.start.name:
                self._by_name.setdefault(stage.start.name, []).append(stage)
        elif self.all:
            self.all[-1].steps.append(instruction)
        elif isinstance(instruction, ins.Arg):
            self.before.append(instruction)
            self._declare(instruction)
        else:
            keyword = instruction.shown.split()[0]
            raise instruction.location.error(
                f"no build stage in current context: {keyword} stands before FROM",
                "Only ARG may stand before the first FROM.",
                keyword,
            )

    def _expand(self, text: str) -> str:
        return expand(text, self._arguments.lookup_global, self._recipe.escape)

    def _declare(self, instruction: ins.Arg) -> None:
        for name, default in instruction.arguments:
            with instruction.location.blamed():
                value = None if default is None else self._expand(default)
            self._arguments.declare_global(name, value)

    def _stage(self, start: ins.From) -> Stage:
        with start.location.blamed():
            base, platform = self._expand(start.image), self._expand(start.platform)
            if not base:
                raise Fault(
                    f"base name ({start.image}) should not be blank",
                    "Give the ARG a default before FROM, or a value with --build-arg.",
                    start.image,
                )
            if start.platform and not platform:
                raise Fault(
                    f"empty platform value from expression {start.platform}",
                    "Give the ARG a default before FROM, or a value with --build-arg.",
                    start.platform,
                )
            platform = _full(platform, start.platform)
        return Stage(len(self.all), start, base, platform, self._named(base))

    def _named(self, name: str, before: int | None = None) -> Stage | None:
        """The latest of that name, in any case, with a number below `before`."""
        found = self._by_name.get(name.lower(), ())
        return next((stage for stage in reversed(found) if before is None or stage.index < before), None)

    def target(self, name: str) -> Stage:
        """By name in any case, or by number; "" is the last one."""
        if not name:
            return self.all[-1]
        found = self._named(name)
        if found is None and _is_number(name) and int(name) < len(self.all):
            found = self.all[int(name)]
        if found is None:
            near = nearest(name.lower(), [stage.start.name for stage in self.all if stage.start.name])
            raise InvalidArgument(
                self._recipe.file,
                f"failed to reach build target {name}: no stage has that name",
                f"{f'Did you mean {near}? ' if near else ''}Stages: {self.names(len(self.all))}.",
            )
        return found

    def names(self, before: int) -> str:
        """A list of the stages that have a name, among the first `before`."""
        names = list(dict.fromkeys(stage.start.name for stage in self.all[:before] if stage.start.name))
        return ", ".join(names[:_SHOWN] + ["…"] * (len(names) > _SHOWN)) or "none has a name"

    def later(self, name: str, stage: Stage) -> Stage | None:
        """A stage of that name that comes after `stage`."""
        found = self._named(name)
        return found if found is not None and found.index > stage.index else None

    # --- who needs whom -------------------------------------------------------------------------------

    def find(self, reference: Reference, stage: Stage) -> Stage | None:
        """The stage that a step of `stage` names; None: it is an image or a named context.

        InvalidArgument for one that is not before it.
        """
        found = self._named(reference.name, stage.index)
        if found is not None:
            return found
        if _is_number(reference.name):
            if int(reference.name) < stage.index:
                return self.all[int(reference.name)]
            raise self._out_of_bounds(reference, stage)
        later = self._named(reference.name)
        if later is not None:
            raise self._too_early(reference, stage, later)
        return None

    @staticmethod
    def _out_of_bounds(reference: Reference, stage: Stage) -> InvalidArgument:
        return reference.step.location.error(
            f"invalid from flag value {reference.name}: index out of bounds",
            f"Earlier stages have the numbers 0 to {stage.index - 1}." if stage.index else "No stage is earlier.",
            reference.name,
        )

    def _too_early(self, reference: Reference, stage: Stage, later: Stage) -> InvalidArgument:
        """Of a stage that itself comes later, or needs this one."""
        if later is stage or stage in self._static_needs(later):
            why = f"circular dependency detected on stage: {stage.shown}"
            remedy = f"{later.shown} cannot be copied from while it is not complete."
        else:
            verb = "mount" if isinstance(reference.step, ins.Run) else "copy"
            why = (
                f'cannot {verb} from stage "{reference.name}", it needs to be defined before '
                f'current stage "{stage.shown}"'
            )
            remedy = f"Move it (from line {later.start.location.first} on) above this stage."
        return reference.step.location.error(why, remedy, reference.name)

    def _static_needs(self, stage: Stage) -> set[Stage]:
        """The stages that a stage needs, as the text says it, whatever the order."""
        found: dict[int, Stage] = {}
        todo = [stage]
        while todo:
            each = todo.pop()
            named = [self._named(reference.name) for step in each.steps for reference in references(step)]
            for needed in (each.base_stage, *named):
                if needed is not None and needed.index not in found:
                    found[needed.index] = needed
                    todo.append(needed)
        return set(found.values())

    def needed(self, target: Stage, replaced: set[int]) -> list[Stage]:
        """The stages that are to be carried out, in order; of those `replaced` nothing else is needed."""
        wanted: set[int] = set()
        todo = [target]
        while todo:
            stage = todo.pop()
            if stage.index in wanted:
                continue
            wanted.add(stage.index)
            if stage.index in replaced:
                continue
            if stage.base_stage is not None:
                todo.append(stage.base_stage)
            for step in stage.all_steps():
                found = (self.find(reference, stage) for reference in references(step))
                todo += [needed for needed in found if needed is not None]
        return [stage for stage in self.all if stage.index in wanted]


def references(step: ins.Instruction) -> Iterator[Reference]:
    """The names of stages, images and named contexts in a step."""
    if isinstance(step, ins.Transfer) and step.source_stage:
        yield Reference(step.source_stage, step)
    elif isinstance(step, ins.Run):
        for mount in step.mounts:
            if mount.from_ and mount.type not in ("tmpfs", "secret", "ssh"):
                yield Reference(mount.from_, step)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _full(platform: str, written: str) -> str:
    """Fault for what is no platform."""
    if not platform:
        return ""
    try:
        return platform_name(normalized(platform))
    except HooperError as error:
        raise Fault(f"failed to parse platform {platform}: {error.what}", error.remedy, written) from error
