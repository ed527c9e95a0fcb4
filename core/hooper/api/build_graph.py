"""What a build is: a graph of steps, each a value that names its inputs.

A builder makes the graph; the engine's solver carries it out. A node says what is to be done and from which nodes,
never how, when or whether: a node that nothing needs costs nothing, independent ones run side by side, and one whose
step and inputs are known is not run at all. Nodes are compared by identity; two with the same content have the same
cache key.

A node's result is a file system (`Scratch`, `ImageSource`, `Run`, `Copy`, `MakeDirectory`), which is a layer on
that of its `base`, or a tree of files that is no layer (`LocalSource`, `HttpSource`, `GitSource`, `InlineSource`),
which can be copied from and mounted.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class Origin(msgspec.Struct, frozen=True):
    """Where a node was written: lines `first` to `last`, from 1."""

    file: str
    first: int
    last: int
    text: str = ""
    """These lines, as they are there."""

    def __str__(self) -> str:
        return f"{self.file}:{self.first}"


class Node(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`name` is what a person is shown. `fresh` passes over what the cache has (--no-cache)."""

    name: str = ""
    origin: Origin | None = None
    fresh: bool = False

    def inputs(self) -> Iterator[Node]:
        """The nodes whose results it needs."""
        yield from ()


# --- where files come from ----------------------------------------------------------------------------


class Scratch(Node, frozen=True, kw_only=True, eq=False):
    """The empty file system."""


class ImageSource(Node, frozen=True, kw_only=True, eq=False):
    """The file system of an image that `BuildServices.image` has resolved."""

    reference: str
    image_id: str
    chain: str
    """Chain id of its file system; "" for one without layers."""


class LocalSource(Node, frozen=True, kw_only=True, eq=False):
    """A tree that the client has: the context "", or one of --build-context."""

    context: str = ""


class HttpSource(Node, frozen=True, kw_only=True, eq=False):
    """One file, fetched. Its name in the tree is `filename`, or else what the URL's path ends in."""

    url: str
    checksum: str = ""
    """"sha256:HEX", verified; "" takes what comes."""
    filename: str = ""


class GitSource(Node, frozen=True, kw_only=True, eq=False):
    """A repository's tree at `ref` (branch, tag, commit, or "" for the default), below `subdirectory`."""

    remote: str
    ref: str = ""
    subdirectory: str = ""
    keep_git_dir: bool = False
    checksum: str = ""
    """The commit, or its beginning, that `ref` must be."""
    submodules: bool = True


class InlineFile(msgspec.Struct, frozen=True):
    name: str
    data: bytes
    mode: int = 0o644


class InlineSource(Node, frozen=True, kw_only=True, eq=False):
    """Files that are written in the recipe itself."""

    files: tuple[InlineFile, ...]


# --- what is done with them ---------------------------------------------------------------------------


class Step(Node, frozen=True, kw_only=True, eq=False):
    """Makes a file system of another one."""

    base: Node

    def inputs(self) -> Iterator[Node]:
        """See Node."""
        yield self.base


class BindMount(msgspec.Struct, frozen=True, kw_only=True, eq=False, tag="bind"):
    """Files of another node at `target`; what a command writes there (`read_only` false) is discarded."""

    target: str
    source: Node
    path: str = ""
    """Within the source; a directory or a file."""
    read_only: bool = True


class CacheMount(msgspec.Struct, frozen=True, kw_only=True, eq=False, tag="cache"):
    """A directory that outlives the build. Its content is no part of any key or layer."""

    target: str
    id: str
    """Who names the same id shares the directory."""
    sharing: str = "shared"
    """shared; private (a directory of its own, if another uses it now); locked (one after the other)."""
    read_only: bool = False
    source: Node | None = None
    """What it begins with."""
    path: str = ""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


class TmpfsMount(msgspec.Struct, frozen=True, kw_only=True, eq=False, tag="tmpfs"):
    target: str
    size: int = 0
    """Bytes; 0 has no limit of its own."""


class SecretMount(msgspec.Struct, frozen=True, kw_only=True, eq=False, tag="secret"):
    """A secret of the client as a file, as a variable, or both. Only its id is part of the key."""

    id: str
    target: str = ""
    """Path of the file; "" makes none."""
    env: str = ""
    """Name of the variable; "" sets none."""
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


class SshMount(msgspec.Struct, frozen=True, kw_only=True, eq=False, tag="ssh"):
    """An SSH agent of the client, as a socket that SSH_AUTH_SOCK names."""

    id: str = "default"
    target: str = ""
    """Path of the socket; "" is /run/buildkit/ssh_agent.N."""
    required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


RunMount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


class Run(Step, frozen=True, kw_only=True, eq=False):
    """A command, in a container on the base's file system."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    hidden_env: tuple[str, ...] = ()
    """Variables that are no part of the key (proxies)."""
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    network: str = ""
    """"" is the request's; "none", "host", "bridge", or a network's name."""
    insecure: bool = False
    """--security=insecure: as `run --privileged`; only where the request allows it."""
    mounts: tuple[RunMount, ...] = ()

    def inputs(self) -> Iterator[Node]:
        """See Node."""
        yield self.base
        for mount in self.mounts:
            if isinstance(mount, BindMount | CacheMount) and mount.source is not None:
                yield mount.source


class CopySource(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Files of one node: `paths` may have wildcards (`hooper.api.patterns`) unless `literal`."""

    node: Node
    paths: tuple[str, ...]
    literal: bool = False
    shown: str = ""
    """What a person calls the node: "build context", "stage build"."""


class Copy(Step, frozen=True, kw_only=True, eq=False):
    """COPY and ADD, by their directory rules. Missing parents are made, 0755, owned by root."""

    sources: tuple[CopySource, ...]
    destination: str
    """Absolute. One that ends in "/", or several sources, make it a directory."""
    chown: str = ""
    """"user[:group]", by name (looked up in the base's /etc/passwd and /etc/group) or number; "" is 0:0, or what
    the source has if `keep_owner`."""
    chmod: str = ""
    """Octal, or symbolic as chmod(1) has it ("u=rwX,go=rX"); "" keeps."""
    keep_owner: bool = False
    unpack: bool = False
    """ADD: a local tar archive (plain, gzip, bzip2, xz, zstd) is unpacked at the destination."""
    parents: bool = False
    """--parents: the path of each source, after its "/./" if it has one, is kept below the destination."""
    exclude: tuple[str, ...] = ()
    """Patterns, relative to each source's root, of what is left out."""
    link: bool = False
    """--link: the layer does not depend on the base, and is found again on any other."""

    def inputs(self) -> Iterator[Node]:
        """See Node."""
        yield self.base
        for source in self.sources:
            yield source.node


class MakeDirectory(Step, frozen=True, kw_only=True, eq=False):
    """A directory with its missing parents, 0755; no layer if it is there."""

    path: str
    user: str = ""
    """"user[:group]" of those that are made; "" is root."""
