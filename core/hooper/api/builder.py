"""Builders: from a recipe and a context to an image.

A builder knows a language (Dockerfile); how steps are carried out, cached and stored is the
engine's work, offered as `BuildServices`. An image under construction is a `BuildState`: an
immutable value, so that stages can share and fork it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hooper.api.driver import Driver
from hooper.api.model import History, Image, ImageConfig
from hooper.api.registry import Credentials


class BuildRequest(msgspec.Struct, kw_only=True):
    """What the caller of a build asked for."""

    context: Path | None
    """The unpacked context, private to this build, .dockerignore not yet applied. None: no context."""
    dockerfile: str = "Dockerfile"
    """Path in the context."""
    tags: list[str] = []
    build_args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    target: str = ""
    platform: str = ""
    no_cache: bool = False
    pull: bool = False
    remove: bool = True
    network_mode: str = ""
    extra_hosts: list[str] = []
    cache_from: list[str] = []
    squash: bool = False
    memory: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset_cpus: str = ""
    shm_size: int = 0
    ulimits: list[Any] = []
    credentials: dict[str, Credentials] = {}
    """By registry host."""


class BuildState(msgspec.Struct, frozen=True):
    """An image under construction.

    `chain` is the chain id of its file system ("" for scratch), `key` a digest of everything that
    led to it, which is what caching goes by; `image_id` is set while it is exactly a stored image.
    """

    config: ImageConfig
    chain: str = ""
    diff_ids: tuple[str, ...] = ()
    history: tuple[History, ...] = ()
    key: str = ""
    image_id: str = ""
    architecture: str = ""
    variant: str = ""
    created: str = ""


class RunStep(msgspec.Struct, frozen=True, kw_only=True):
    """A command to run on a state's file system, with its environment and user."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    network_mode: str = ""
    """ "" is the request's."""


class CopySource(msgspec.Struct, frozen=True):
    """Files to copy: `paths` relative to the root of `directory` (a context or an unpacked download) or,
    if that is None, of the file system with the chain id `chain`. Patterns are expanded already."""

    directory: Path | None
    chain: str
    paths: tuple[str, ...]


class CopyStep(msgspec.Struct, frozen=True, kw_only=True):
    """COPY and ADD, by their directory rules: `destination` is absolute; one that ends in "/", or several
    sources, make it a directory. Missing parents are made, 0755, owned by root."""

    sources: tuple[CopySource, ...]
    destination: str
    chown: str = ""
    """"user[:group]", looked up in the target's /etc/passwd and /etc/group; "" is 0:0 (--from keeps owners
    too only where `keep_owner`)."""
    chmod: str = ""
    """Octal, "" keeps."""
    keep_owner: bool = False
    unpack: bool = False
    """ADD: a local tar archive (plain, gzip, bzip2, xz, zstd) is unpacked at the destination."""


class SourceEntry(msgspec.Struct, frozen=True):
    """What `list_sources` says of a file: enough for a cache key and for pattern matching."""

    path: str
    """Relative, "/" between parts; bytes that are not UTF-8 are surrogates, as in all of Python's file names."""
    kind: str
    """file, directory, symlink or other."""
    digest: str
    """Of content and metadata that a copy carries over (mode, size, link target; not times, not owner)."""


class Progress(ABC):
    """Where a build tells what it does."""

    @abstractmethod
    async def stream(self, text: str) -> None:
        """Text for a person, in the words of Docker's classic builder."""

    @abstractmethod
    async def aux(self, value: dict[str, Any]) -> None: ...

    @abstractmethod
    async def message(self, value: dict[str, Any]) -> None:
        """A progress message as it is (a pull's)."""


class BuildServices(ABC):
    """What the engine does for a builder. Each verb that changes a file system returns a new state with one
    more layer and no new history; nothing becomes an image before `finish`."""

    @abstractmethod
    async def scratch(self, platform: str) -> BuildState: ...

    @abstractmethod
    async def image(self, reference: str, platform: str, pull: bool) -> BuildState:
        """The state that a stored or pulled image is. NotFound if it is nowhere."""

    @abstractmethod
    async def cached(self, key: str) -> BuildState | None:
        """The state that `remember` stored under this key, if all of it still exists."""

    @abstractmethod
    async def remember(self, state: BuildState) -> None:
        """Stores a finished step under `state.key`."""

    @abstractmethod
    async def run(self, state: BuildState, step: RunStep) -> BuildState:
        """Runs a command in a container. StepFailed, with its exit code, if that is not 0."""

    @abstractmethod
    async def copy(self, state: BuildState, step: CopyStep) -> BuildState: ...

    @abstractmethod
    async def list_sources(self, source: CopySource) -> Sequence[SourceEntry]:
        """All files at and below the source's paths, sorted by path; with the digest of each. `paths`
        ("",) is everything. Symlinks are not followed out of the root."""

    @abstractmethod
    async def make_directory(self, state: BuildState, path: str, user: str) -> BuildState:
        """WORKDIR: makes the directory if it is missing; the same state if it was there."""

    @abstractmethod
    async def read_file(self, state: BuildState, path: str) -> bytes:
        """A small file of the state's file system; NotFound."""

    @abstractmethod
    async def download(self, url: str) -> Path:
        """ADD of an URL: a private directory that holds the one file."""

    @abstractmethod
    async def finish(self, state: BuildState, image: Image | None = None) -> str:
        """Stores the state as an image and returns its id. Tagging is the engine's."""


class Builder(Driver):
    @abstractmethod
    async def build(self, request: BuildRequest, services: BuildServices, progress: Progress) -> str:
        """Carries the recipe out and returns the id of the image.

        InvalidArgument names file and line for whatever is wrong with the recipe.
        """
