"""Instructions as values: what the parser makes of a Dockerfile and the executor carries out.

Texts are unexpanded. `shown` is the instruction as a person wrote it, on one line.
"""

from __future__ import annotations

from dataclasses import dataclass

from hooper.api.model import Healthcheck
from hooper_builder_dockerfile.faults import Location
from hooper_builder_dockerfile.lexer import Heredoc


@dataclass(frozen=True, kw_only=True)
class Instruction:
    location: Location
    shown: str


@dataclass(frozen=True, kw_only=True)
class From(Instruction):
    image: str
    name: str = ""
    """Lower case; "" if the stage has none."""
    platform: str = ""


@dataclass(frozen=True, kw_only=True)
class Arg(Instruction):
    arguments: tuple[tuple[str, str | None], ...]
    """Name and default."""


@dataclass(frozen=True, kw_only=True)
class Pairs(Instruction):
    pairs: tuple[tuple[str, str], ...]


class Env(Pairs):
    pass


class Label(Pairs):
    pass


@dataclass(frozen=True, kw_only=True)
class Command(Instruction):
    """RUN, CMD, ENTRYPOINT: in shell form `args` is one text, for a shell."""

    args: tuple[str, ...]
    shell_form: bool


@dataclass(frozen=True, kw_only=True)
class Run(Command):
    heredocs: tuple[Heredoc, ...] = ()
    network: str = ""


class Cmd(Command):
    pass


class Entrypoint(Command):
    pass


@dataclass(frozen=True, kw_only=True)
class Transfer(Instruction):
    """COPY and ADD."""

    keyword: str
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    """Those of `sources` that are written in place: "<<NAME" stands for them."""
    chown: str = ""
    chmod: str = ""
    source_stage: str = ""
    """--from: a stage's name or number, or an image."""
    checksum: str = ""


@dataclass(frozen=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, kw_only=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Stopsignal(Instruction):
    signal: str


@dataclass(frozen=True, kw_only=True)
class HealthcheckSetting(Instruction):
    check: Healthcheck


@dataclass(frozen=True, kw_only=True)
class Maintainer(Instruction):
    author: str


@dataclass(frozen=True, kw_only=True)
class Shell(Instruction):
    args: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Onbuild(Instruction):
    trigger: str


@dataclass(frozen=True)
class Recipe:
    instructions: tuple[Instruction, ...]
    escape: str
