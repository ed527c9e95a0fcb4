"""Instructions as values: what the parser makes of a Dockerfile, and the planner a graph of.

Texts are unexpanded: they may hold variables, quotes and escapes, which `words.expand` replaces and removes.
Two instructions are equal if they say the same, wherever and however that is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hooper.api.model import Healthcheck
from hooper_builder_dockerfile.faults import Location
from hooper_builder_dockerfile.heredocs import Heredoc
from hooper_builder_dockerfile.mounts import MountFlag


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How an instruction is written, for those who judge that (`checks`)."""

    keyword: str
    """In the case that it has there: "From"."""
    comments: tuple[str, ...] = ()
    """Directly above it, without "#" and outer blanks."""
    empty_lines: tuple[int, ...] = ()
    """Numbers of the blank lines within its continuations."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    location: Location = field(compare=False)
    shown: str = field(compare=False)
    """As a person wrote it, on one line, the keyword in capitals; without here-documents' contents."""
    writing: Writing = field(compare=False, repr=False, default=Writing(keyword=""))


@dataclass(frozen=True, kw_only=True)
class From(Instruction):
    image: str
    name: str = ""
    """Lower case; "" if the stage has none."""
    platform: str = ""
    written_as: str = field(default="", compare=False)
    """The word AS, in the case that it has there."""
    written_name: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class Arg(Instruction):
    arguments: tuple[tuple[str, str | None], ...]
    """Name and default. Both may hold variables."""


@dataclass(frozen=True, kw_only=True)
class Pairs(Instruction):
    """ENV and LABEL."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False
    """Written as NAME VALUE, without "=": one pair."""


class Env(Pairs):
    pass


class Label(Pairs):
    pass


@dataclass(frozen=True, kw_only=True)
class Command(Instruction):
    """RUN, CMD, ENTRYPOINT: in shell form `args` is one text, for a shell, or nothing."""

    args: tuple[str, ...]
    shell_form: bool


@dataclass(frozen=True, kw_only=True)
class Run(Command):
    """`runs.command` makes the words to execute of it."""

    heredocs: tuple[Heredoc, ...] = ()
    network: str = ""
    """"" is the build's; "none", "host", or the name of any network."""
    security: str = ""
    """"" is sandbox; "insecure"."""
    mounts: tuple[MountFlag, ...] = ()


class Cmd(Command):
    pass


class Entrypoint(Command):
    pass


@dataclass(frozen=True, kw_only=True)
class Transfer(Instruction):
    """COPY and ADD."""

    keyword: str
    """"COPY" or "ADD"."""
    sources: tuple[str, ...]
    """Paths, and for ADD also URLs and git repositories; without those in `heredocs`."""
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    """Sources that are written in place: files of that name and content."""
    chown: str = ""
    chmod: str = ""
    source_stage: str = ""
    """--from: a stage's name or number, an image or a named context. Never holds a variable."""
    checksum: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    """Patterns, one a flag."""
    keep_git_dir: bool | None = None
    """None: not said (the source's own default)."""
    unpack: bool | None = None
    """None: not said (local archives are unpacked, fetched ones are not)."""


@dataclass(frozen=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, kw_only=True)
class Expose(Instruction):
    ports: tuple[str, ...]
    """`ports.exposed` understands them, once they are expanded by `words.expand_words`."""


@dataclass(frozen=True, kw_only=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Stopsignal(Instruction):
    signal: str


@dataclass(frozen=True, kw_only=True)
class HealthcheckSetting(Instruction):
    check: Healthcheck
    """Its test is ["NONE"], ["CMD", words…] or ["CMD-SHELL", text]; nothing in it is expanded."""


@dataclass(frozen=True, kw_only=True)
class Maintainer(Instruction):
    author: str


@dataclass(frozen=True, kw_only=True)
class Shell(Instruction):
    args: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Onbuild(Instruction):
    trigger: str
    """The instruction's text with its here-documents, for `parser.parse_one`."""


@dataclass(frozen=True, kw_only=True)
class Directives:
    """The parser directives; "" for one that is not there."""

    syntax: str = ""
    check: str = ""
    """As written: "skip=all;error=true". `checks.CheckOptions.of` understands it."""
    escape: str = ""


@dataclass(frozen=True)
class Recipe:
    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    directives: Directives = Directives()
    file: str = field(default="Dockerfile", compare=False)
    source: Sequence[str] = field(default=(), compare=False, repr=False)
    """All lines of the file, without their ends."""
