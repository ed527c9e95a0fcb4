"""Builders: from a recipe and a context to a plan of what is to be done.

A builder knows a language (Dockerfile). It reads its recipe by `BuildServices`, and returns a `Plan`: a graph of steps
(`hooper.api.build_graph`), and the image's configuration and history to go with its result. All else is
the engine's: the solver carries the graph out, in parallel and through the cache, and the outcome is stored,
tagged or sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

from hooper.api.build_events import BuildEvent
from hooper.api.build_graph import ImageSource, Node, Origin
from hooper.api.driver import Driver
from hooper.api.model import ImageConfig, Ulimit
from hooper.api.registry import Credentials


class OutputSpec(msgspec.Struct, frozen=True, rename="pascal"):
    """What becomes of a result: type=image, local, tar, oci or docker (an archive of either layout), with attributes.

    image: name (comma separated), push. The others are sent to the client by its session, as the stream
    ("output", its number).
    """

    type: str
    attrs: dict[str, str] = {}


class CacheSpec(msgspec.Struct, frozen=True, rename="pascal"):
    """Where finished steps come from or go to: type=inline, registry (ref) or local (src or dest, by the session)."""

    type: str
    attrs: dict[str, str] = {}


class NamedContext(msgspec.Struct, frozen=True):
    """--build-context: `kind` is local (the client's session has it), image, url, git or oci-layout."""

    kind: str
    value: str = ""


class BuildRequest(msgspec.Struct, kw_only=True):
    """What the caller of a build asked for."""

    builder: str = ""
    """Name of the builder; "" is the one that claims the recipe's name, or else the configured one."""
    recipe: str = ""
    """Path in the context; "" is the builder's usual name."""
    tags: list[str] = []
    build_args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    target: str = ""
    platform: str = ""
    no_cache: bool = False
    no_cache_stages: list[str] = []
    """--no-cache-filter."""
    pull: bool = False
    remove: bool = True
    network_mode: str = ""
    """"" is a bridge; also the name of any network of this engine."""
    extra_hosts: list[str] = []
    contexts: dict[str, NamedContext] = {}
    """--build-context, by name."""
    cache_from: list[CacheSpec] = []
    cache_to: list[CacheSpec] = []
    outputs: list[OutputSpec] = []
    """[] is one image in the store."""
    allow: list[str] = []
    """Entitlements: security.insecure, network.host."""
    squash: bool = False
    debug: bool = False
    """Keeps the state before a step that fails, as an image that the event StepFailed names."""
    source_date_epoch: int | None = None
    """Seconds: what every later time in the result is set to."""
    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cgroup_parent: str = ""
    shm_size: int = 0
    ulimits: list[Ulimit] = []
    security_opt: list[str] = []
    credentials: dict[str, Credentials] = {}
    """By registry host."""


class BuildWarning(msgspec.Struct, frozen=True, kw_only=True):
    """A doubtful place in a recipe: `rule` is a name of BuildKit's list of checks ("StageNameCasing")."""

    rule: str
    message: str
    url: str = ""
    origin: Origin | None = None


class HistoryStep(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction of the recipe, in the order of the recipe.

    `node` is the last node that it adds to its stage; None: it changes the configuration alone.
    """

    shown: str
    """As a person wrote it, on one line: "RUN make"."""
    stage: str
    """Name, or number from 0, of the stage that it belongs to."""
    created_by: str = ""
    """For the image's history; "" leaves no trace there (FROM, and an ARG before it)."""
    node: Node | None = None
    origin: Origin | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder has understood.

    `result` is the file system of the image, `config` its configuration and `steps` what led there: of all
    stages that are needed, of which those in `stage` make the history, on top of that of the image `base`.
    """

    result: Node
    config: ImageConfig
    steps: Sequence[HistoryStep]
    stages: Sequence[str]
    """The stages whose steps are the image's history, in order: the target, and before it those it is FROM."""
    base: ImageSource | None = None
    """The image at the beginning; None: scratch."""
    architecture: str = ""
    variant: str = ""
    author: str = ""
    warnings: Sequence[BuildWarning] = ()
    notes: Sequence[str] = ()
    """For a person, at the end: arguments that nothing used."""
    source_date_epoch: int | None = None
    """Seconds: the recipe's own, for a request that has none."""


class ResolvedImage(msgspec.Struct, frozen=True, kw_only=True):
    """A stored or pulled image, as the beginning of a stage."""

    node: ImageSource
    config: ImageConfig
    architecture: str
    variant: str
    author: str = ""


class BuildServices(ABC):
    """What the engine does for a builder while that makes its plan."""

    @abstractmethod
    async def read(self, path: str, context: str = "") -> bytes | None:
        """A file of a context, 16 MiB at most; None if it is not there.

        InvalidArgument for a path, or a link, that leads out of it, and where there is no context.
        """

    @abstractmethod
    def ignore(self, patterns: Sequence[str], file: str, context: str = "") -> None:
        """What a context is to be without (`hooper.api.patterns`), by the rules of `file`, from now on."""

    @abstractmethod
    async def image(self, reference: str, platform: str = "", pull: bool = False) -> ResolvedImage:
        """The image of that name, pulled if it is not there. NotFound if it is nowhere."""

    @abstractmethod
    def named_context(self, name: str) -> NamedContext | None:
        """What --build-context gives this name, which then stands for a stage or an image."""

    @abstractmethod
    async def layout_image(self, name: str) -> ResolvedImage:
        """The image of the named context of the kind oci-layout."""

    @property
    @abstractmethod
    def host_platform(self) -> str:
        """ "linux/amd64"."""


class Progress(ABC):
    """Where a build tells what it does; a front-end shows it in its own words."""

    @abstractmethod
    async def event(self, event: BuildEvent) -> None: ...


class Builder(Driver):
    """A builder whose `DriverSpec.capabilities` have "recipe:PATTERN" is taken for recipes of such names (fnmatch)."""

    @abstractmethod
    async def plan(self, request: BuildRequest, services: BuildServices) -> Plan:
        """Reads the recipe.

        InvalidArgument names file, line and cause of whatever is wrong with it; nothing has been run then.
        """

    @abstractmethod
    async def check(self, request: BuildRequest, services: BuildServices) -> Sequence[BuildWarning]:
        """The doubtful places, without pulling an image (--check)."""
