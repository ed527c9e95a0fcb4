"""The engine as front-ends see it: its use cases, in groups.

Every verb raises the kinds of `hooper.api.errors`. Containers are named by id, unique id prefix or name
(with or without a leading "/"); images by reference, id or unique id prefix (12 digits or more are
usual); networks and volumes by name, networks also by id or prefix.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

import msgspec

from hooper.api.build_session import BuildSession
from hooper.api.builder import BuildRequest, BuildWarning, Progress
from hooper.api.errors import Unsupported
from hooper.api.isolation import Stats
from hooper.api.logs import LogEntry, LogQuery
from hooper.api.model import (
    Container,
    ContainerConfig,
    EndpointSettings,
    Event,
    Exec,
    HostConfig,
    ImageSummary,
    NetworkingConfig,
    Volume,
)
from hooper.api.network import Endpoint, Network
from hooper.api.registry import Credentials, Descriptor, SearchResult

if TYPE_CHECKING:
    from hooper.api.content import Content
    from hooper.api.image_places import ImagePlaces
    from hooper.api.moving import Moves
    from hooper.api.policy import Verification

Filters = Mapping[str, Sequence[str]]
"""{"label": ["a", "b=c"], "status": ["running"]}: Docker's filters, in either wire form, parsed."""


class ContainerCreate(msgspec.Struct, kw_only=True):
    config: ContainerConfig
    host_config: HostConfig = msgspec.field(default_factory=HostConfig)
    networking: NetworkingConfig = msgspec.field(default_factory=NetworkingConfig)
    name: str = ""
    platform: str = ""


class Created(msgspec.Struct, frozen=True):
    id: str
    warnings: Sequence[str] = ()


class AttachOptions(msgspec.Struct, frozen=True, kw_only=True):
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: str = ""
    """Docker's notation, "ctrl-p,ctrl-q"; "" is that default. Looked for with a tty only."""
    logs: bool = False
    """Replay what was logged before."""
    stream: bool = True


class ExecCreate(msgspec.Struct, kw_only=True):
    cmd: list[str]
    user: str = ""
    env: list[str] = []
    working_dir: str = ""
    tty: bool = False
    privileged: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    console_size: tuple[int, int] | None = None
    """Rows, columns."""


class WaitResult(msgspec.Struct, frozen=True):
    exit_code: int
    error: str = ""


class PathStat(msgspec.Struct, frozen=True):
    """Of a path in a container. `mode` is Go's os.FileMode, as X-Docker-Container-Path-Stat has it."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str


class Change(msgspec.Struct, frozen=True):
    path: str
    kind: int
    """0 modified, 1 added, 2 deleted."""


class Deleted(msgspec.Struct, frozen=True):
    """What an image removal did: one of the two is set."""

    untagged: str = ""
    deleted: str = ""


class Pruned(msgspec.Struct, frozen=True):
    items: Sequence[str]
    space: int


class Containers(ABC):
    @abstractmethod
    async def create(self, request: ContainerCreate) -> Created:
        """NotFound "No such image: …" makes clients pull. Nothing is left of one that fails."""

    @abstractmethod
    async def list(self, *, all: bool = False, limit: int = 0, filters: Filters | None = None) -> Sequence[Container]:
        """Newest first. Without `all` and without a status filter only the running ones."""

    @abstractmethod
    async def get(self, name: str) -> Container: ...

    @abstractmethod
    async def start(self, name: str, *, detach_keys: str = "") -> None:
        """NotModified if it runs. StartFailed carries the exit code for the shell."""

    @abstractmethod
    async def stop(self, name: str, *, signal: str = "", timeout: int | None = None) -> None:
        """`timeout` in seconds, -1 waits for ever, None is the container's own. NotModified if it does
        not run."""

    @abstractmethod
    async def restart(self, name: str, *, signal: str = "", timeout: int | None = None) -> None: ...

    @abstractmethod
    async def kill(self, name: str, signal: str = "SIGKILL") -> None:
        """Conflict if it does not run."""

    @abstractmethod
    async def pause(self, name: str) -> None: ...

    @abstractmethod
    async def unpause(self, name: str) -> None: ...

    @abstractmethod
    async def rename(self, name: str, new_name: str) -> None: ...

    @abstractmethod
    async def update(self, name: str, changes: HostConfig) -> Sequence[str]:
        """Changes the limits that are set in `changes`. Returns warnings."""

    @abstractmethod
    async def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        """Conflict if it runs and not `force`."""

    @abstractmethod
    async def wait(self, name: str, condition: str = "not-running") -> Awaitable[WaitResult]:
        """Returns, once the wait is registered, what to await. Conditions: not-running, next-exit, removed."""

    @abstractmethod
    def attaching(self, name: str) -> AbstractContextManager[None]:
        """Within it a client is told that it is attached, and then is: no start comes in between."""

    @abstractmethod
    async def attach(self, name: str, options: AttachOptions, connection: socket.socket, received: bytes) -> None:
        """Gives the connection to the container, and returns at once.

        `received` are bytes that came after the request. The engine owns the connection from now on,
        also when it raises; the container's monitor speaks on it directly: raw with a tty, else in
        Docker's frames. A container that does not run yet is connected when it starts.
        """

    @abstractmethod
    async def resize(self, name: str, height: int, width: int) -> None: ...

    @abstractmethod
    async def logs(self, name: str, query: LogQuery) -> AsyncIterator[Sequence[LogEntry]]:
        """Checks, opens the log, and returns the batches to iterate over, none of them empty."""

    @abstractmethod
    async def top(self, name: str, ps_args: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Titles and rows, of the host's view, as `ps` with these arguments prints them."""

    @abstractmethod
    async def size(self, name: str) -> int:
        """Bytes of the files that it has written or changed itself."""

    @abstractmethod
    async def stats(self, name: str) -> Stats | None:
        """None if it does not run."""

    @abstractmethod
    async def changes(self, name: str) -> Sequence[Change]: ...

    @abstractmethod
    async def export(self, name: str, output: int) -> None:
        """Writes the file system as a tar to a descriptor."""

    @abstractmethod
    async def stat_path(self, name: str, path: str) -> PathStat: ...

    @abstractmethod
    async def get_archive(self, name: str, path: str, output: int) -> None:
        """Writes a tar of the path, whose first entry has its base name, to a descriptor."""

    @abstractmethod
    async def put_archive(
        self, name: str, path: str, archive: int, *, no_overwrite_dir_non_dir: bool = False, copy_uid_gid: bool = False
    ) -> None:
        """Unpacks a tar, read from a descriptor, in the directory `path`."""

    @abstractmethod
    async def commit(
        self,
        name: str,
        *,
        reference: str = "",
        comment: str = "",
        author: str = "",
        pause: bool = True,
        changes: Sequence[str] = (),
        config: ContainerConfig | None = None,
    ) -> str:
        """Makes an image of it and returns the image's id."""

    @abstractmethod
    async def prune(self, filters: Filters) -> Pruned: ...

    @abstractmethod
    async def exec_create(self, name: str, request: ExecCreate) -> str:
        """Conflict if the container does not run."""

    @abstractmethod
    async def exec_start(
        self,
        exec_id: str,
        connection: socket.socket | None,
        received: bytes,
        *,
        tty: bool = False,
        console_size: tuple[int, int] | None = None,
    ) -> None:
        """Starts it; with a connection as `attach` does, None detached. The head that was sent on the connection may
        not have been read yet: nothing is sent before it is (`hooper.linux.unread`). StartFailed, with the
        connection still the caller's."""

    @abstractmethod
    async def exec_resize(self, exec_id: str, height: int, width: int) -> None: ...

    @abstractmethod
    async def exec_get(self, exec_id: str) -> Exec: ...

    @abstractmethod
    async def exec_ids(self, name: str) -> Sequence[str]:
        """Of the execs that run in a container."""


ProgressSink = Callable[[dict[str, Any]], Awaitable[None]]
"""Takes one message of Docker's JSON progress stream: status, id, progressDetail…"""


class Variant(msgspec.Struct, frozen=True):
    """An image for one platform."""

    image: ImageSummary
    manifest: Descriptor
    """As it came; of an image that never had a manifest its configuration."""
    content: int
    """Bytes of the compressed form that are here."""
    containers: Sequence[str]
    """Ids of those that use it."""


class Images(ABC):
    @abstractmethod
    async def list(self, *, all: bool = False, filters: Filters | None = None) -> Sequence[ImageSummary]: ...

    @abstractmethod
    async def get(self, name: str, *, platform: str = "") -> ImageSummary:
        """NotFound "No such image: NAME", and if it is not here for the platform ("": the one that the name is)."""

    async def variants(self, image: ImageSummary) -> Sequence[Variant]:
        """The image, and those that came from the same index for other platforms."""
        return ()

    @abstractmethod
    async def layer_sizes(self, image: ImageSummary) -> Sequence[int]:
        """Bytes, uncompressed, of each layer, from the lowest on."""

    @abstractmethod
    async def pull(
        self,
        reference: str,
        progress: ProgressSink,
        *,
        platform: str = "",
        all_tags: bool = False,
        credentials: Credentials | None = None,
    ) -> str:
        """Returns the image's id. An error raised here is not yet in the progress stream."""

    @abstractmethod
    async def push(
        self, reference: str, progress: ProgressSink, *, credentials: Credentials | None = None, platform: str = ""
    ) -> None:
        """Without a tag: all tags of the name. `platform`: which image, where it came for several."""

    @abstractmethod
    async def tag(self, name: str, reference: str) -> None: ...

    @abstractmethod
    async def remove(
        self, name: str, *, force: bool = False, prune: bool = True, platforms: Sequence[str] = ()
    ) -> Sequence[Deleted]:
        """`platforms`: only the images for these, of those that came from one index."""

    @abstractmethod
    async def prune(self, filters: Filters) -> Pruned: ...

    @abstractmethod
    async def save(self, names: Sequence[str], output: int, *, platform: str = "") -> None:
        """Writes a tar, both an OCI layout and docker-save's, to a descriptor."""

    @abstractmethod
    async def load(self, archive: int, progress: ProgressSink, *, platform: str = "") -> Sequence[str]:
        """Reads such a tar (either kind, compressed or not); returns what was loaded: of a platform, or all."""

    @abstractmethod
    async def import_tar(
        self, archive: int, *, reference: str = "", message: str = "", changes: Sequence[str] = (), platform: str = ""
    ) -> str:
        """Makes an image of one layer from a file system tar; returns its id."""

    async def import_url(
        self,
        url: str,
        progress: ProgressSink,
        *,
        reference: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
    ) -> str:
        """As `import_tar`, of a tar that the engine's host downloads."""
        raise Unsupported(f"cannot import {url}", "only uploads are imported", "Download it and import the file.")

    @abstractmethod
    async def login(self, host: str, credentials: Credentials) -> str:
        """Checks them; returns an identity token or ""."""

    async def search(
        self, term: str, *, limit: int = 25, filters: Filters | None = None, credentials: Credentials | None = None
    ) -> Sequence[SearchResult]:
        """Repositories whose names have `term` ("[HOST/]WORDS"); names are as they are pulled. Filters: stars (at
        least), is-official, is-automated. InvalidArgument for a limit outside of 1 to 100; Unsupported."""
        raise Unsupported("this engine cannot search for images", remedy="Pull by name.")

    @abstractmethod
    async def distribution(
        self, reference: str, credentials: Credentials | None = None
    ) -> tuple[Descriptor, Sequence[Any]]:
        """The registry's descriptor and the platforms."""

    async def verify(
        self,
        reference: str,
        keys: Sequence[str],
        *,
        identities: Sequence[str] = (),
        credentials: Credentials | None = None,
    ) -> Verification:
        """What the signatures of an image in a registry are worth; `keys` are public keys in PEM.

        `identities` are patterns (fnmatch) of repositories that a signature may be for; none: the image's own.
        InvalidArgument for what is no key; Unsupported.
        """
        raise Unsupported("this engine verifies no signatures")


class SubnetStatus(msgspec.Struct, frozen=True):
    """Addresses of one subnet: `used` are given out or reserved, `free` may still be given out by the engine."""

    used: int
    free: int


class Networks(ABC):
    @abstractmethod
    async def create(self, network: Network) -> tuple[Network, Sequence[str]]:
        """`id` and `created` are filled in by the engine, and `driver` if it is "". Returns warnings.

        Conflict if the name exists.
        """

    @abstractmethod
    async def list(self, filters: Filters | None = None) -> Sequence[Network]: ...

    @abstractmethod
    async def get(self, name: str) -> Network: ...

    @abstractmethod
    async def endpoints(self, network: Network) -> Sequence[Endpoint]:
        """Those of running containers."""

    @abstractmethod
    async def status(self, network: Network) -> dict[str, SubnetStatus]:
        """By subnet, as text."""

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Forbidden for a predefined one or one in use."""

    @abstractmethod
    async def connect(self, name: str, container: str, settings: EndpointSettings) -> None: ...

    @abstractmethod
    async def disconnect(self, name: str, container: str, *, force: bool = False) -> None: ...

    @abstractmethod
    async def prune(self, filters: Filters) -> Pruned: ...


class Volumes(ABC):
    @abstractmethod
    async def create(self, volume: Volume) -> Volume:
        """The existing one, if the name exists with the same driver."""

    @abstractmethod
    async def list(self, filters: Filters | None = None) -> Sequence[Volume]: ...

    @abstractmethod
    async def get(self, name: str) -> Volume: ...

    @abstractmethod
    async def remove(self, name: str, *, force: bool = False) -> None:
        """Conflict if a container uses it."""

    @abstractmethod
    async def users(self, name: str) -> int:
        """How many containers use it."""

    @abstractmethod
    async def prune(self, filters: Filters) -> Pruned: ...


class BuildContext(ABC):
    """A received context of a build: a tree of files that nothing changes as long as it is open."""

    files: int
    size: int
    """Bytes of its files."""
    sent: int
    """Bytes that had to be sent for it."""


class BuildOutcome(msgspec.Struct, frozen=True):
    """What a build has made: `image_id` is "" if no output was an image."""

    image_id: str = ""
    digest: str = ""
    """Of the manifest, where one was pushed."""


class Builds(ABC):
    @abstractmethod
    def context_of_archive(self, archive: int) -> AbstractAsyncContextManager[BuildContext]:
        """Reads a tar, compressed or not, to its end."""

    @abstractmethod
    def context_of_session(self, session: BuildSession) -> AbstractAsyncContextManager[BuildContext]:
        """What the client's session has as its context "": only files that are not here already are sent."""

    @abstractmethod
    def context_of_url(self, url: str) -> AbstractAsyncContextManager[BuildContext]:
        """A git repository, a tar, or a single file, which is the recipe then."""

    @abstractmethod
    async def build(
        self, request: BuildRequest, progress: Progress, context: BuildContext | None, session: BuildSession
    ) -> BuildOutcome:
        """Cancelling stops the steps that no other build waits for, and leaves nothing half-made."""

    @abstractmethod
    async def check(
        self, request: BuildRequest, context: BuildContext | None, session: BuildSession
    ) -> Sequence[BuildWarning]:
        """The doubtful places of the recipe; nothing is run."""

    @abstractmethod
    async def prune(
        self, filters: Filters, *, all: bool = False, keep: int = 0, max_used: int = 0, min_free: int = 0
    ) -> Pruned:
        """Removes what no running build uses and, unless `all`, no image shares: of the filters' choice, the longest
        unused first. With bounds (bytes, 0: none) no more than needed: to `max_used` altogether, until the file system
        has `min_free`; `keep` of the most recently used stay in any case, and without the others no more than them.
        """


class Events(ABC):
    @abstractmethod
    def publish(self, event: Event) -> None: ...

    @abstractmethod
    def subscribe(self, since_ns: int = 0) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Remembered events from `since_ns` on (0: none), then new ones as they come."""


class CachedStep(msgspec.Struct, frozen=True):
    """What builds keep: a finished step, or files for later ones. `size` are bytes that no other has; `shared`: an
    image has them too."""

    key: str
    description: str
    size: int
    shared: bool
    created: str
    """RFC 3339, UTC."""
    last_used: float
    """Seconds since the epoch."""
    type: str = "regular"
    """In BuildKit's words: regular (a step), source.local, source.git.checkout, source.http, exec.cachemount."""
    in_use: bool = False
    """By a build that goes on."""
    usage_count: int = 0
    """How many builds have found it."""
    parents: tuple[str, ...] = ()
    """Keys of what it stands on."""


USAGE_KINDS = ("image", "container", "volume", "build-cache")


class DiskUsage(msgspec.Struct, kw_only=True):
    """Bytes. An object that vanishes meanwhile is not in it."""

    layers: int = 0
    """Of all layers, each once."""
    builder: int = 0
    """Of the layers that only finished steps of builds keep."""
    shared: dict[str, int] = {}
    """By image id: of its layers that other images have too."""
    containers: dict[str, int] = {}
    """By id: of the files that it has written or changed itself."""
    volumes: dict[str, int] = {}
    """By name."""
    steps: list[CachedStep] = []


class System(ABC):
    @abstractmethod
    async def info(self) -> dict[str, Any]:
        """GET /info, in Docker's names."""

    @abstractmethod
    async def version(self) -> dict[str, str]:
        """Version, GitCommit, KernelVersion, Os, Arch, BuildTime."""

    @abstractmethod
    async def disk_usage(self, kinds: Collection[str] = USAGE_KINDS) -> DiskUsage:
        """Of these kinds of objects only: measuring files takes a while."""

    @abstractmethod
    async def plugins(self) -> Sequence[dict[str, Any]]:
        """For `hooper plugin ls|inspect|doctor`: kind, name, summary, plugin, version, status (active, ok, skipped,
        disabled, incompatible, error), reason, traceback."""


class Engine(ABC):
    """All use cases. An attribute a group."""

    containers: Containers
    images: Images
    networks: Networks
    volumes: Volumes
    builds: Builds
    events: Events
    system: System

    @property
    def moving(self) -> Moves:
        """Moving containers between engines. Unsupported by an engine that does not override this."""
        raise Unsupported("this engine does not move containers")

    @property
    def content(self) -> Content:
        """Blobs and manifests, for a registry. Unsupported by an engine that does not override this."""
        raise Unsupported("this engine does not give its content out")

    @property
    def places(self) -> ImagePlaces:
        """Images between registries and layouts. Unsupported by an engine that does not override this."""
        raise Unsupported("this engine does not copy images")
