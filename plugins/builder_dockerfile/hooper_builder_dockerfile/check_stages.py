"""The checks that follow variables through the stages of a Dockerfile."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hooper.api.errors import InvalidArgument
from hooper.api.manifests import parse_platform
from hooper.api.reference import Reference
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.arguments import NO_VARIABLES
from hooper_builder_dockerfile.check_rules import Reporter, similar
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.scope import DEFAULT_PATH
from hooper_builder_dockerfile.words import Expansion, Lookup, document_expansion, expansion

PREDEFINED = (
    *(f"{side}{name}" for side in ("BUILD", "TARGET") for name in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")),
    "TARGETSTAGE",
)
"""Arguments that exist without an ARG, before the first FROM and in FROM."""

_ENVIRONMENT = {"PATH": DEFAULT_PATH}
_LIKELY = {
    f"{side}{name}": value
    for side in ("BUILD", "TARGET")
    for name, value in (("PLATFORM", "linux/amd64"), ("OS", "linux"), ("ARCH", "amd64"))
}
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_SOUGHT = 100
"""How often a similar name is looked for: without end, time would grow with the square of a recipe's length."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """What is known of an image that a stage is FROM."""

    env: Mapping[str, str] = field(default_factory=dict)
    has_shell: bool = False
    """Its configuration has a SHELL."""
    platform: str = ""
    """ "linux/amd64"; "" if it is not known."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known beyond the text; a check that needs more than there is, is left out."""

    build_args: Mapping[str, str | None] = field(default_factory=dict)
    predefined: Mapping[str, str] = field(default_factory=dict)
    """Values of `PREDEFINED`; likely ones stand for those that are not here."""
    platform: str = ""
    """That of the result: "linux/amd64"."""
    bases: Mapping[str, Base] = field(default_factory=dict)
    """By the image's name, as it is in FROM after expansion."""
    stages: Collection[int] | None = None
    """Numbers of those that are needed; None: all."""
    ignored: Callable[[str], bool] | None = None
    """Whether the ignore file leaves out that path of the context ("." is all of it). None: no such file, or one that
    has exceptions, with which nothing is sure."""


def check_stages(recipe: ins.Recipe, known: Known, reporter: Reporter) -> None:
    _Checker(recipe, known, reporter).check()


@dataclass
class _Stage:
    name: str
    env: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    complete: bool = True
    """All variables of its base are known."""
    has_shell: bool = False
    workdir_set: bool = False
    once: dict[type[ins.Instruction], ins.Instruction] = field(default_factory=dict)

    def child(self, name: str) -> _Stage:
        return _Stage(name, dict(self.env), set(self.declared), self.complete, self.has_shell, self.workdir_set)


class _Checker:
    def __init__(self, recipe: ins.Recipe, known: Known, reporter: Reporter) -> None:
        self._recipe, self._known, self._warn = recipe, known, reporter.warn
        self._globals = {name: known.predefined.get(name, _LIKELY.get(name, "")) for name in PREDEFINED}
        self._defaults = dict(self._globals)
        self._names = dict.fromkeys(PREDEFINED)
        """Of arguments before the first FROM, in order."""
        self._stages: list[_Stage] = []
        self._by_name: dict[str, _Stage] = {}
        """The latest of each name."""
        self._sought = 0

    def check(self) -> None:
        for step in self._recipe.instructions:
            if isinstance(step, ins.From):
                stage = self._begin(step)
                self._stages.append(stage)
                if stage.name:
                    self._by_name[stage.name] = stage
            elif not self._stages:
                if isinstance(step, ins.Arg):
                    self._declare_global(step)
            elif self._wanted(len(self._stages) - 1):
                self._step(step, self._stages[-1])

    def _wanted(self, index: int) -> bool:
        return self._known.stages is None or index in self._known.stages

    def _expanded(self, text: str, lookup: Lookup) -> Expansion | None:
        """None for what cannot be expanded: a build says that."""
        try:
            return expansion(text, lookup, self._recipe.escape)
        except Fault:
            return None

    def _similar(self, name: str, known: Iterable[str]) -> str:
        """The known name that is most like this one, "" if none is, or too many were looked for already."""
        self._sought += 1
        return similar(name, known) if self._sought <= _SOUGHT else ""

    # --- FROM and what stands before it ---------------------------------------------------------------

    def _declare_global(self, step: ins.Arg) -> None:
        for name, default in step.arguments:
            self._names[name] = None
            for values, given in ((self._globals, self._known.build_args.get(name)), (self._defaults, None)):
                if given is not None:
                    values[name] = given
                elif default is not None and (found := self._expanded(default, values.get)):
                    values[name] = found.text

    def _begin(self, step: ins.From) -> _Stage:
        found = self._expanded(step.image, self._globals.get)
        base = found.text if found else ""
        if self._wanted(len(self._stages)):
            self._check_default(step)
            self._check_unmatched(step, found)
            if step.platform:
                self._check_platform(step)
            self._check_base_platform(step, base)
        return self._based(step.name, base)

    def _based(self, name: str, base: str) -> _Stage:
        if stage := self._by_name.get(base.lower()):
            return stage.child(name)
        if base == "scratch":
            return _Stage(name, dict(_ENVIRONMENT))
        image = self._known.bases.get(base)
        if image is None:
            return _Stage(name, dict(_ENVIRONMENT), complete=False)
        return _Stage(name, {**_ENVIRONMENT, **image.env}, has_shell=image.has_shell)

    def _check_default(self, step: ins.From) -> None:
        found = self._expanded(step.image, self._defaults.get) if "$" in step.image else None
        if found is None:
            return
        try:
            Reference.parse(found.text)
        except InvalidArgument:
            message = f"Default value for ARG {step.image} results in an empty or invalid base image name"
            self._warn("InvalidDefaultArgInFrom", step, message)

    def _check_unmatched(self, step: ins.From, found: Expansion | None) -> None:
        for name in found.unset if found else ():
            if name not in self._names:
                near = self._similar(name, self._names)
                hint = f" (did you mean {near}?)" if near else ""
                self._warn("UndefinedArgInFrom", step, f"FROM argument '{name}' is not declared{hint}")

    def _check_platform(self, step: ins.From) -> None:
        found = self._expanded(step.platform, self._globals.get)
        if found is None:
            return
        self._check_unmatched(step, found)
        if list(found.used) == ["TARGETPLATFORM"] and not found.unset:
            if found.text == self._globals["TARGETPLATFORM"]:
                message = f"Setting platform to predefined {step.platform} in FROM is redundant: it is the default"
                self._warn("RedundantTargetPlatform", step, message)
        elif not found.used and not found.unset:
            parts = _platform(found.text)
            if parts and not any(part in step.name for part in parts):
                message = f'FROM --platform should not use the constant value "{found.text}"'
                self._warn("FromPlatformFlagConstDisallowed", step, message)

    def _check_base_platform(self, step: ins.From, base: str) -> None:
        image = self._known.bases.get(base)
        wanted = self._known.platform
        if step.platform:
            found = self._expanded(step.platform, self._globals.get)
            wanted = found.text if found else ""
        actual = image.platform if image else ""
        if wanted and actual and _platform(wanted) != _platform(actual):
            message = f'Base image {base} is of platform "{actual}", this build expects "{wanted}"'
            self._warn("InvalidBaseImagePlatform", step, message)

    # --- the other instructions -----------------------------------------------------------------------

    def _step(self, step: ins.Instruction, stage: _Stage) -> None:
        if isinstance(step, ins.Arg):
            self._arg(step, stage)
            return
        for found in self._expansions(step, stage):
            self._check_variables(step, stage, found)
        if isinstance(step, ins.Env):
            self._env(step, stage)
        elif isinstance(step, ins.Shell):
            stage.has_shell = True
        elif isinstance(step, ins.Workdir):
            self._workdir(step, stage)
        elif isinstance(step, ins.Transfer):
            self._transfer(step, stage)
        elif isinstance(step, ins.Expose):
            self._expose(step, stage)
        if isinstance(step, ins.Cmd | ins.Entrypoint | ins.HealthcheckSetting):
            self._used_once(step, stage)

    def _expansions(self, step: ins.Instruction, stage: _Stage) -> Iterator[Expansion]:
        for text in _texts(step):
            if "$" in text and (found := self._expanded(text, stage.env.get)):
                yield found
        for document in step.heredocs if isinstance(step, ins.Transfer) else ():
            if document.expand and "$" in document.content:
                try:
                    yield document_expansion(document.content, stage.env.get)
                except Fault:
                    continue

    def _check_variables(self, step: ins.Instruction, stage: _Stage, found: Expansion) -> None:
        for name in found.unset:
            if name in stage.declared or name in NO_VARIABLES:
                continue
            near = self._similar(name, stage.env)
            if stage.complete or _mistyped(name, near):
                hint = f" (did you mean ${near}?)" if near else ""
                self._warn("UndefinedVar", step, f"Usage of undefined variable '${name}'{hint}")

    def _arg(self, step: ins.Arg, stage: _Stage) -> None:
        for name, default in step.arguments:
            self._check_secret("ARG", name, step)
            value = self._known.build_args.get(name)
            if value is None and default is None:
                value = self._globals.get(name)
            elif value is None and default is not None and (found := self._expanded(default, stage.env.get)):
                self._check_variables(step, stage, found)
                value = found.text
            if value is not None and name not in NO_VARIABLES:
                stage.env[name] = value
            stage.declared.add(name)

    def _env(self, step: ins.Env, stage: _Stage) -> None:
        values: dict[str, str] = {}
        for name, value in step.pairs:
            key, found = self._expanded(name, stage.env.get), self._expanded(value, stage.env.get)
            if key is not None:
                self._check_secret("ENV", key.text, step)
                values[key.text] = found.text if found else ""
        stage.env.update(values)

    def _check_secret(self, keyword: str, name: str, step: ins.Instruction) -> None:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            message = f'Do not use ARG or ENV for sensitive data ({keyword} "{name}")'
            self._warn("SecretsUsedInArgOrEnv", step, message)

    def _workdir(self, step: ins.Workdir, stage: _Stage) -> None:
        found = self._expanded(step.path, stage.env.get)
        if found and not stage.workdir_set and not found.text.startswith("/"):
            message = f'Relative workdir "{found.text}" can have unexpected results if the base image changes'
            self._warn("WorkdirRelativePath", step, message)
        stage.workdir_set = True

    def _used_once(self, step: ins.Cmd | ins.Entrypoint | ins.HealthcheckSetting, stage: _Stage) -> None:
        keyword = step.writing.keyword
        if isinstance(step, ins.Command) and step.shell_form and not stage.has_shell:
            message = f"JSON arguments recommended for {keyword}: a shell does not pass on signals of the OS"
            self._warn("JSONArgsRecommended", step, message)
        if earlier := stage.once.get(type(step)):
            message = f"Multiple {keyword} instructions should not be used in a stage: only the last one has an effect"
            self._warn("MultipleInstructionsDisallowed", earlier, message)
        stage.once[type(step)] = step

    def _transfer(self, step: ins.Transfer, stage: _Stage) -> None:
        if self._known.ignored is None or step.source_stage:
            return
        for source in step.sources:
            found = self._expanded(source, stage.env.get)
            if found is None or "://" in found.text or found.text.startswith("git@"):
                continue
            path = posixpath.normpath(posixpath.join("/", found.text)).lstrip("/") or "."
            if self._known.ignored(path):
                message = f'Attempting to {step.keyword} file "{path}" that is excluded by .dockerignore'
                self._warn("CopyIgnoredFile", step, message)

    def _expose(self, step: ins.Expose, stage: _Stage) -> None:
        for text in step.ports:
            found = self._expanded(text, stage.env.get)
            for port in found.words if found else ():
                mapping, _, protocol = port.partition("/")
                if protocol != protocol.lower():
                    self._warn("ExposeProtoCasing", step, f"Protocol of '{port}' in EXPOSE should be lowercase")
                if ":" in mapping:
                    message = f"EXPOSE should not define an IP address or a port of the host, found '{port}'"
                    self._warn("ExposeInvalidFormat", step, message)


def _mistyped(name: str, near: str) -> bool:
    """Whether a name is surely meant for the other, though more names may exist: GOPATH is not PATH."""
    return bool(near) and near[0] == name[0] and abs(len(near) - len(name)) <= 1


def _texts(step: ins.Instruction) -> Iterator[str]:
    """What is expanded in an instruction."""
    if isinstance(step, ins.Pairs):
        for pair in step.pairs:
            yield from pair
    elif isinstance(step, ins.Transfer):
        yield from (*step.sources, step.destination, step.chown, step.chmod, step.checksum)
    elif isinstance(step, ins.Workdir):
        yield step.path
    elif isinstance(step, ins.User):
        yield step.user
    elif isinstance(step, ins.Volume):
        yield from step.paths
    elif isinstance(step, ins.Stopsignal):
        yield step.signal
    elif isinstance(step, ins.Run):
        for mount in step.mounts:
            yield from mount.given().values()


def _platform(text: str) -> tuple[str, str] | None:
    """System and machine of "linux/arm64/v8", "arm64" or "linux"; None if it is none."""
    try:
        found = parse_platform(text)
    except InvalidArgument:
        return None
    return found.os, found.architecture
