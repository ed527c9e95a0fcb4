"""From the instructions of a recipe to a plan: stages, the images they need, and the steps of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec

from hooper.api.build_graph import Node, Scratch
from hooper.api.builder import BuildRequest, BuildServices, BuildWarning, HistoryStep, Plan
from hooper.api.errors import HooperError, InvalidArgument, NotFound
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.arguments import Arguments, normalized
from hooper_builder_dockerfile.check_stages import Base
from hooper_builder_dockerfile.faults import Location
from hooper_builder_dockerfile.parser import parse_one
from hooper_builder_dockerfile.places import Blame, Place, Places, Wanted, placed
from hooper_builder_dockerfile.scope import Scope
from hooper_builder_dockerfile.stages import SCRATCH, Reference, Stage, Stages, references
from hooper_builder_dockerfile.steps import StepPlanner, Titles

_SHELL_OF_SYSTEM = "linux"


class Planner:
    """One a build. `resolve`, then `plan`."""

    def __init__(
        self, recipe: ins.Recipe, request: BuildRequest, services: BuildServices, arguments: Arguments
    ) -> None:
        """InvalidArgument for what is wrong with the stages, or the target."""
        self._recipe, self._request, self._arguments = recipe, request, arguments
        self.stages = Stages(recipe, arguments)
        self.target = self.stages.target(request.target)
        self.places = Places(request, services, arguments)
        self._platform = normalized(request.platform or services.host_platform)
        self._replaced = {
            stage.index: stage
            for stage in self.stages.all
            if stage.start.name and self.places.replacement(stage.start.name, stage.platform)
        }
        self._done: dict[int, Scope] = {}
        self._steps: list[HistoryStep] = []

    # --- what is needed -------------------------------------------------------------------------------

    async def resolve(self) -> list[Stage]:
        """Finds the stages and images that the target needs. The error of one that is missing has its line.

        The triggers of an image, and only they, may add to what is known from the beginning.
        """
        while True:
            needed = self.stages.needed(self.target, set(self._replaced))
            await self.places.resolve([found for stage in needed for found in self._wanted(stage)])
            if not [stage for stage in needed if self._trigger(stage)]:
                return needed

    async def survey(self) -> tuple[list[Stage], bool]:
        """The stages that a check looks at, and whether all images that they need are here."""
        missing: set[Wanted] = set()
        while True:
            stages = self.stages.all
            if self._request.target:
                stages = self.stages.needed(self.target, set(self._replaced))
            for wanted, blame in [found for stage in stages for found in self._wanted(stage)]:
                try:
                    await self.places.resolve([(wanted, blame)])
                except NotFound:
                    missing.add(wanted)
            if not [stage for stage in stages if self._trigger(stage)]:
                return stages, not missing

    def _wanted(self, stage: Stage) -> Iterator[tuple[Wanted, Blame]]:
        if stage.base_stage is None or stage.index in self._replaced:
            wanted = self._beginning(stage)
            if wanted.name != SCRATCH:
                yield wanted, self._blame_from(stage)
        if stage.index in self._replaced:
            return
        for step in stage.all_steps():
            for reference in references(step):
                if self.stages.find(reference, stage) is None:
                    yield self._outside(reference.name), self._blame_reference(reference, stage)

    def _beginning(self, stage: Stage) -> Wanted:
        """What a stage that is FROM no other begins with."""
        name = stage.start.name if stage.index in self._replaced else stage.base
        return Wanted(name, stage.platform or self._request_platform)

    @property
    def _request_platform(self) -> str:
        return self._arguments.predefined["TARGETPLATFORM"] if self._request.platform else ""

    def _outside(self, name: str) -> Wanted:
        return Wanted(name, self._request_platform)

    def _blame_from(self, stage: Stage) -> Blame:
        def blame(error: HooperError) -> HooperError:
            if isinstance(error, NotFound):
                error.remedy = " ".join(filter(None, (error.remedy, self._other_stages(stage))))
            return placed(error, stage.start.location, word=stage.start.image)

        return blame

    def _other_stages(self, stage: Stage) -> str:
        later = self.stages.later(stage.base, stage)
        if later is not None:
            return f"The stage {later.start.name} begins in line {later.start.location.first}: move it above this one."
        names = self.stages.names(stage.index)
        return f"Stages before: {names}." if any(each.start.name for each in self.stages.all[: stage.index]) else ""

    def _blame_reference(self, reference: Reference, stage: Stage) -> Blame:
        def blame(error: HooperError) -> HooperError:
            names = self.stages.names(stage.index)
            error.remedy = f"No earlier stage is named {reference.name} either (there are: {names})."
            what = f"invalid from flag value {reference.name}: "
            return placed(error, reference.step.location, what, reference.name)

        return blame

    def _trigger(self, stage: Stage) -> bool:
        """Whether the triggers of the stage have become known just now, and name anything."""
        if stage.triggers is not None:
            return False
        stage.triggers = self._triggers_of(stage)
        return any(True for step in stage.triggers for _ in references(step))

    def _triggers_of(self, stage: Stage) -> list[ins.Instruction]:
        """InvalidArgument, with the place of FROM, for what is no instruction."""
        if stage.index in self._replaced:
            return []
        beginning, escape = stage.base_stage or stage, "\\"
        if beginning is not stage and beginning.index not in self._replaced:
            steps, escape = beginning.steps, self._recipe.escape
            texts = [step.trigger for step in steps if isinstance(step, ins.Onbuild)]
        else:
            wanted = self._beginning(beginning)
            image = self.places[wanted].image if wanted in self.places else None
            texts = (image.config.on_build if image else None) or []
        return [parse_one(text, stage.start.location, escape) for text in texts]

    def bases(self, stages: Sequence[Stage]) -> Mapping[str, Base]:
        """What is known of the images that these stages are FROM, for the checks."""
        found = {}
        for stage in stages:
            wanted = self._beginning(stage)
            if stage.base_stage is None and wanted in self.places and (image := self.places[wanted].image):
                scope = Scope.of_image(image, image.node, self._recipe.escape)
                parts = (_SHELL_OF_SYSTEM, image.architecture, image.variant)
                found[stage.base] = Base(
                    env=scope.environment,
                    has_shell=bool(image.config.shell),
                    platform="/".join(filter(None, parts)) if image.architecture else "",
                )
        return found

    # --- the plan -------------------------------------------------------------------------------------

    def plan(self, needed: Sequence[Stage], warnings: Sequence[BuildWarning]) -> Plan:
        """InvalidArgument for the first thing that is wrong with a step, Forbidden for what is not allowed."""
        for argument in self.stages.before:
            self._tell(argument.shown, "", argument.location)
        for stage in needed:
            self._stage(stage)
        scope = self._done[self.target.index]
        self._label(scope)
        if isinstance(scope.node, Scratch) and not scope.changed:
            raise InvalidArgument(self._recipe.file, "no image was generated", "Add an instruction after FROM scratch.")
        explicit = self._platform if self._request.platform else None
        unused = self._arguments.unused()
        return Plan(
            result=scope.node,
            config=scope.finished(),
            steps=self._steps,
            stages=scope.lineage,
            base=scope.base,
            architecture=explicit.architecture if explicit else scope.architecture,
            variant=explicit.variant if explicit else scope.variant,
            author=scope.author,
            warnings=warnings,
            notes=[f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed"] if unused else [],
        )

    def _tell(self, shown: str, stage: str, location: Location, created_by: str = "", node: Node | None = None) -> None:
        self._steps.append(
            HistoryStep(shown=shown, stage=stage, created_by=created_by, node=node, origin=location.origin())
        )

    def _label(self, scope: Scope) -> None:
        """The labels that the caller gave, as the last step. Their values are not expanded."""
        labels = dict(sorted(self._request.labels.items()))
        if not labels:
            return
        scope.config = msgspec.structs.replace(scope.config, labels={**(scope.config.labels or {}), **labels})
        scope.changed = True
        text = f"LABEL {' '.join(f'{name}={value}' for name, value in labels.items())}"
        place = Location(self._recipe.file, self.target.start.location.first)
        self._tell(text, self.target.label, place, scope.nothing_run(f" {text}"))

    # --- stages ---------------------------------------------------------------------------------------

    def _stage(self, stage: Stage) -> None:
        titles = self._titles(stage)
        scope = self._begin(stage, titles)
        scope.lineage = (*scope.lineage, stage.label)
        self._done[stage.index] = scope
        self._tell(stage.start.shown, stage.label, stage.start.location, node=scope.node)
        if stage.index in self._replaced:
            return
        fresh = self._is_fresh(stage)
        if scope.config.on_build:
            scope.config = msgspec.structs.replace(scope.config, on_build=None)
        planner = StepPlanner(
            partial(self._place_of, stage), scope, titles, request=self._request, arguments=self._arguments, fresh=fresh
        )
        for number, step in enumerate(stage.all_steps()):
            trigger = number < len(stage.triggers or ())
            titles.trigger = trigger
            with _blamed(step.location):
                created_by, node = planner.carry_out(step)
            shown = f"ONBUILD {step.shown}" if trigger else step.shown
            self._tell(shown, stage.label, step.location, created_by, node)
            scope.changed = True

    def _titles(self, stage: Stage) -> Titles:
        steps = () if stage.index in self._replaced else stage.all_steps()
        total = sum(isinstance(step, ins.Run | ins.Transfer | ins.Workdir) for step in steps)
        total += stage.base != SCRATCH and stage.base_stage is None
        return Titles(stage.shown if len(self.stages.all) > 1 else "", max(total, 1))

    def _begin(self, stage: Stage, titles: Titles) -> Scope:
        escape = self._recipe.escape
        if stage.index not in self._replaced:
            if stage.base_stage is not None:
                return self._done[stage.base_stage.index].child()
            if stage.base == SCRATCH:
                scratch = Scratch(name=stage.start.shown, origin=stage.start.location.origin())
                return Scope.empty(scratch, escape, self._platform)
        place = self.places[self._beginning(stage)]
        title = titles.next(f"FROM {stage.base if stage.index not in self._replaced else place.shown}")
        node = place.file_system(title, stage.start.location.origin())
        if place.image is None:
            return Scope.empty(node, escape, self._platform)
        return Scope.of_image(place.image, node, escape)

    def _is_fresh(self, stage: Stage) -> bool:
        names = {name.lower() for name in self._request.no_cache_stages}
        return self._request.no_cache or bool(names & {stage.start.name or str(stage.index), str(stage.index)})

    def _place_of(self, stage: Stage, reference: Reference) -> Place:
        """Where COPY --from or a mount takes files from; "" is the context."""
        if not reference.name:
            return Place(self.places.context(), "build context")
        found = self.stages.find(reference, stage)
        if found is None:
            return self.places[self._outside(reference.name)]
        if found.index in self._replaced:
            return self.places[self._beginning(found)]
        return Place(self._done[found.index].node, f"stage {reference.name}", layered=True)


@contextmanager
def _blamed(location: Location) -> Iterator[None]:
    """Gives whatever goes wrong the place of an instruction."""
    try:
        with location.blamed():
            yield
    except HooperError as error:
        raise placed(error, location) from error
