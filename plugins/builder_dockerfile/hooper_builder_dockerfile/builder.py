"""The driver "dockerfile"."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec

from hooper.api.builder import Builder, BuildRequest, BuildServices, BuildWarning, Plan
from hooper.api.errors import NotFound
from hooper.api.patterns import Patterns
from hooper_builder_dockerfile import checks
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.arguments import Arguments, predefined
from hooper_builder_dockerfile.check_stages import Known
from hooper_builder_dockerfile.ignoring import IGNORE_FILE, read_ignore_file
from hooper_builder_dockerfile.parser import parse
from hooper_builder_dockerfile.planner import Planner
from hooper_builder_dockerfile.stages import Stage

_USUAL = ("Dockerfile", "dockerfile")
_EPOCH = "SOURCE_DATE_EPOCH"


class DockerfileBuilder(Builder):
    async def plan(self, request: BuildRequest, services: BuildServices) -> Plan:
        """See Builder."""
        work = await _Work.begin(request, services)
        needed = await work.planner.resolve()
        return await anyio.to_thread.run_sync(work.plan, needed)

    async def check(self, request: BuildRequest, services: BuildServices) -> Sequence[BuildWarning]:
        """See Builder. Without a target all stages are checked. Mistakes that only a build would find are found too,
        if the images are here."""
        work = await _Work.begin(request, services)
        stages, complete = await work.planner.survey()
        return await anyio.to_thread.run_sync(work.check, stages, complete)


class _Work:
    """A recipe that has been read. What grows with its length is for a thread: nobody else is to wait for that."""

    def __init__(
        self, recipe: ins.Recipe, request: BuildRequest, services: BuildServices, ignored: Sequence[str]
    ) -> None:
        self.recipe, self._request, self._ignored = recipe, request, ignored
        given = dict(request.build_args)
        if request.source_date_epoch is not None:
            given.setdefault(_EPOCH, str(request.source_date_epoch))
        names = [step.name for step in recipe.instructions if isinstance(step, ins.From)]
        target = request.target or (names[-1] if names else "")
        self.arguments = Arguments(given, predefined(request.platform, services.host_platform, target))
        self.planner = Planner(recipe, request, services, self.arguments)

    @classmethod
    async def begin(cls, request: BuildRequest, services: BuildServices) -> _Work:
        file, content = await _content(request, services)
        recipe = await anyio.to_thread.run_sync(parse, content, file)
        ignored = await read_ignore_file(services, (f"{file}{IGNORE_FILE}", IGNORE_FILE))
        return cls(recipe, request, services, ignored)

    def plan(self, needed: Sequence[Stage]) -> Plan:
        warnings = self._warnings(needed)
        plan = self.planner.plan(needed, warnings)
        if refusal := checks.refusal(self.recipe, warnings, self._request.build_args):
            raise refusal
        return msgspec.structs.replace(plan, source_date_epoch=self.arguments.epoch)

    def check(self, stages: Sequence[Stage], complete: bool) -> list[BuildWarning]:
        """`complete`: all images are here, so that mistakes that only a build would find are found."""
        warnings = self._warnings(stages)
        if complete:
            self.planner.plan(stages, warnings)
        return warnings

    def _warnings(self, stages: Sequence[Stage]) -> list[BuildWarning]:
        patterns = Patterns(self._ignored)
        sure = self._ignored and not any(pattern.startswith("!") for pattern in self._ignored)
        known = Known(
            build_args=self.arguments.given,
            predefined=self.arguments.predefined,
            platform=self.arguments.predefined["TARGETPLATFORM"],
            bases=self.planner.bases(stages),
            stages={stage.index for stage in stages},
            ignored=patterns.matches if sure else None,
        )
        return checks.check(self.recipe, known)


async def _content(request: BuildRequest, services: BuildServices) -> tuple[str, bytes]:
    """The recipe's name and content. NotFound if it is not there."""
    names = (request.recipe,) if request.recipe else _USUAL
    for name in (*names, *(_USUAL[1:] if request.recipe == _USUAL[0] else ())):
        content = await services.read(name)
        if content is not None:
            return name, content
    what = f"Cannot locate specified Dockerfile: {names[0]}"
    raise NotFound(what, remedy="Name it with -f, relative to the context.")
