"""The language: what a recipe may hold, and where in its file that is."""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Mapping

import msgspec

from hooper.api.build_graph import Origin
from hooper.api.errors import InvalidArgument
from hooper.api.model import ImageConfig

MAIN = "main"
"""The stage that has no table of its own: the recipe itself."""
_HEADER = re.compile(
    r"\s*\[(?:\[\s*(?:stage\.\"?(?P<of>[^\].\"]+)\"?\.)?step\s*\]|stage\.\"?(?P<stage>[^\].\"]+)\"?)\]"
)
_AT = re.compile(r"\(at line (\d+)")


class StepTable(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from"}):
    """[[step]]: a command, or files to copy."""

    run: str = ""
    cache: list[str] = []
    copy: list[str] = []
    to: str = ""
    source: str = ""
    """The name of a stage, or of a context that the request gives; "" is the context."""

    @property
    def shown(self) -> str:
        """On one line."""
        text = f"run {self.run}" if self.run else f"copy {' '.join(self.copy)}"
        return " ".join(text.split())


class StageTable(msgspec.Struct, forbid_unknown_fields=True, rename={"base": "from"}):
    """What leads to a file system, and what holds for its commands."""

    base: str
    step: list[StepTable] = []
    workdir: str = ""
    env: dict[str, str] = {}

    def applied_to(self, config: ImageConfig) -> ImageConfig:
        """The configuration of what it begins with, for its own commands."""
        env = dict(item.partition("=")[::2] for item in config.env or ()) | self.env
        directory = posixpath.join(config.working_dir or "/", self.workdir)
        return msgspec.structs.replace(
            config, env=[f"{name}={value}" for name, value in env.items()], working_dir=directory
        )

    def finished(self, config: ImageConfig) -> ImageConfig:
        """The configuration of the image, when all its steps are done."""
        return config


class RecipeTable(StageTable, forbid_unknown_fields=True, rename={"base": "from"}):
    """The whole file: the main stage, what becomes of its image, and the other stages."""

    cmd: list[str] = []
    user: str = ""
    labels: dict[str, str] = {}
    stage: dict[str, StageTable] = {}

    def finished(self, config: ImageConfig) -> ImageConfig:
        """See StageTable."""
        labels = {**(config.labels or {}), **self.labels}
        return msgspec.structs.replace(
            config, cmd=self.cmd or config.cmd, user=self.user or config.user, labels=labels or None
        )


class Recipe:
    """A recipe that was read. InvalidArgument names the file, the line and what is wrong."""

    def __init__(self, content: bytes, file: str) -> None:
        self.file = file
        self._lines: list[str] = []
        try:
            text = content.decode()
            self._lines = text.splitlines()
            table = msgspec.convert(tomllib.loads(text), RecipeTable)
        except UnicodeDecodeError as error:
            raise self.error(content[: error.start].count(b"\n") + 1, "it is not UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            at = _AT.search(str(error))
            raise self.error(int(at[1]) if at else len(self._lines), str(error)) from error
        except RecursionError as error:
            raise self.error(1, "it is nested too deeply") from error
        except msgspec.ValidationError as error:
            raise self.error(0, str(error), "See the README for what a recipe may hold.") from error
        self.stages: Mapping[str, StageTable] = {**table.stage, MAIN: table}
        self._places = self._found()
        self._check(table)

    def _check(self, table: RecipeTable) -> None:
        if MAIN in table.stage:
            raise self.error(
                self.line(MAIN), f'no stage may have the name "{MAIN}"', "It is that of the recipe itself."
            )
        for name, stage in self.stages.items():
            for number, step in enumerate(stage.step):
                self._check_step(step, self.line(name, number))

    def _check_step(self, step: StepTable, line: int) -> None:
        if bool(step.run) == bool(step.copy):
            raise self.error(line, "a step has `run` or `copy`, one of them", "Split it in two.")
        if step.cache and not step.run:
            raise self.error(line, "`cache` goes with `run`", "Copies need none.")
        if (step.to or step.source) and not step.copy:
            raise self.error(line, "`to` and `from` go with `copy`", "A command runs in the stage that it is in.")
        if len(step.copy) > 1 and step.to and not step.to.endswith("/"):
            raise self.error(line, "several files go to a directory", f'Write to = "{step.to}/".')

    # --- places in the file -------------------------------------------------------------------------

    def _found(self) -> dict[tuple[str, int], int]:
        """The lines of headers, by stage and number of the step; -1 is the stage itself.

        The TOML reader keeps no lines. A header in a text over several lines is taken for one: then a line is wrong
        that is shown to a person, and nothing else.
        """
        found: dict[tuple[str, int], int] = {}
        counts: dict[str, int] = {}
        for number, line in enumerate(self._lines, 1):
            header = _HEADER.match(line)
            if header is None:
                continue
            if header["stage"]:
                found.setdefault((header["stage"], -1), number)
                continue
            stage = header["of"] or MAIN
            found[stage, counts.setdefault(stage, 0)] = number
            counts[stage] += 1
        return found

    def line(self, stage: str, step: int = -1) -> int:
        """Where a stage, or one of its steps, is written; that of the stage if nobody knows."""
        return self._places.get((stage, step)) or self._places.get((stage, -1), 1)

    def origin(self, line: int) -> Origin:
        """The lines from one header to the next."""
        last = line
        while last < len(self._lines) and not self._lines[last].lstrip().startswith("["):
            last += 1
        while last > line and not self._lines[last - 1].strip():
            last -= 1
        return Origin(self.file, line, last, "\n".join(self._lines[line - 1 : last]))

    def error(self, line: int, why: str, remedy: str = "") -> InvalidArgument:
        """`line` 0: nobody knows."""
        return InvalidArgument(f"{self.file}:{line}" if line else self.file, why, remedy)
