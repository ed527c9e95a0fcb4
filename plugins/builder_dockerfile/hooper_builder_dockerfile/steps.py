"""The instructions of a stage: from each to what it adds to the graph, the configuration and the history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from hooper.api.build_graph import MakeDirectory, Node
from hooper.api.builder import BuildRequest
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.arguments import NO_VARIABLES, Arguments
from hooper_builder_dockerfile.configure import configure, working_directory
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.places import Place
from hooper_builder_dockerfile.run_mounts import MountPlanner
from hooper_builder_dockerfile.runs import run_step
from hooper_builder_dockerfile.scope import Scope
from hooper_builder_dockerfile.stages import Reference
from hooper_builder_dockerfile.transfers import transfer_steps


@dataclass
class Titles:
    """What a person is shown of the steps of a stage: "[build 2/5] RUN make"."""

    stage: str
    total: int
    done: int = 0
    trigger: bool = False
    """The next ones are ONBUILD's."""

    def next(self, shown: str) -> str:
        self.done += 1
        stage = f"{self.stage} " if self.stage else ""
        return f"[{stage}{self.done:>{len(str(self.total))}}/{self.total}] {'ONBUILD ' if self.trigger else ''}{shown}"


class StepPlanner:
    """The instructions of one stage, one after the other. `carry_out` sets what each changes in the scope."""

    def __init__(
        self,
        find: Callable[[Reference], Place],
        scope: Scope,
        titles: Titles,
        *,
        request: BuildRequest,
        arguments: Arguments,
        fresh: bool,
    ) -> None:
        """`find` says what a name in the stage stands for, "" is the build context."""
        self._find, self._scope, self._titles = find, scope, titles
        self._request, self._arguments, self._fresh = request, arguments, fresh

    def carry_out(self, step: ins.Instruction) -> tuple[str, Node | None]:
        """The history's words, and the last node that was added."""
        if isinstance(step, ins.Run):
            return self._run(step)
        if isinstance(step, ins.Transfer):
            return self._transfer(step)
        if isinstance(step, ins.Workdir):
            return self._workdir(step)
        if isinstance(step, ins.Arg):
            return self._declare(step), None
        created_by = self._configure(step)
        return created_by, None

    def _title(self, step: ins.Instruction) -> str:
        return self._titles.next(step.shown)

    def _configure(self, step: ins.Instruction) -> str:
        configured = configure(step, self._scope)
        if configured is None:
            raise Fault(f"{step.shown} cannot stand here", "Begin a stage with FROM.")
        self._scope.config, words = configured
        return self._scope.nothing_run(words)

    def _declare(self, step: ins.Arg) -> str:
        arguments, scope = self._arguments, self._scope
        words = []
        for name, written in step.arguments:
            default = None if written is None else scope.expand(written)
            value = arguments.stage_value(name, default)
            if value is not None and name not in NO_VARIABLES:
                scope.arguments[name] = value
            words.append(name if default is None else f"{name}={default}")
        arguments.declared.update(name for name, _ in step.arguments)
        return scope.nothing_run(f" ARG {' '.join(words)}")

    def _workdir(self, step: ins.Workdir) -> tuple[str, Node | None]:
        scope = self._scope
        path = working_directory(step, scope)
        created_by = scope.nothing_run(f"WORKDIR {path}")
        scope.config = msgspec.structs.replace(scope.config, working_dir=path)
        title = self._title(step)
        if path == "/":
            return created_by, None
        scope.node = MakeDirectory(
            name=title, origin=step.location.origin(), fresh=self._fresh, base=scope.node, path=path,
            user=scope.config.user,
        )  # fmt: skip
        return created_by, scope.node

    def _run(self, step: ins.Run) -> tuple[str, Node]:
        def find(name: str) -> Node:
            return self._find(Reference(name, step)).node

        arguments = self._arguments
        run, created_by = run_step(
            step, self._scope, MountPlanner(find, arguments.cache_namespace), request=self._request,
            arguments=arguments, title=self._title(step), fresh=self._fresh,
        )  # fmt: skip
        self._scope.node = run
        return created_by, run

    def _transfer(self, step: ins.Transfer) -> tuple[str, Node]:
        place = self._find(Reference(step.source_stage, step))
        steps, created_by = transfer_steps(step, self._scope, place, title=self._title(step), fresh=self._fresh)
        self._scope.node = steps[-1]
        return created_by, steps[-1]
