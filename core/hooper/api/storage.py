"""Storage drivers: snapshots, the file systems of images and containers.

The life of a snapshot: `prepare` makes an *active* one, writable, on a committed parent (or on
nothing); `commit` freezes it under a name, and its key is gone; `view` makes one that is read-only.
Committed snapshots are immutable and may be parents. A snapshot with children is not removed.

A driver mounts nothing in the host's mount namespace: it returns `Mount`s, and whoever uses the
snapshot makes them inside a mount namespace of its own, where they vanish with the user.
Paths and keys are free text without "/" and NUL, at most 255 bytes; keys of active snapshots and
views, and names of committed ones, are one namespace.
(After the snapshotter interface of containerd, core/snapshots.)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from hooper.api.driver import Driver


class Mount(msgspec.Struct, frozen=True):
    """One mount(2), as a value. The mounts of a snapshot are made in order, on one directory.

    `type` is a file system type or "bind". `options` are fstab words ("ro", "rbind",
    "lowerdir=/a:/b"); lowerdir may be longer than a page.
    """

    type: str
    source: str
    options: tuple[str, ...] = ()


class SnapshotKind(StrEnum):
    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


class SnapshotInfo(msgspec.Struct, frozen=True):
    key: str
    kind: SnapshotKind
    parent: str
    """Name of the parent, "" for none."""
    created: float
    """Seconds since the epoch."""


class Usage(msgspec.Struct, frozen=True):
    """What one snapshot takes itself, without its parents."""

    size: int
    """Bytes allocated on disk; a file with several links counts once."""
    inodes: int
    content: int = 0
    """Bytes that the files hold, as `ls -l` shows them, without directories: what Docker gives for a container."""


class LayerResult(msgspec.Struct, frozen=True):
    """A layer that was read (apply) or written (diff)."""

    diff_id: str
    """"sha256:…" of the uncompressed tar."""
    size: int
    """Bytes of the uncompressed tar."""


class StorageDriver(Driver):
    """Errors of all verbs: NotFound (no such key), Conflict (key exists, has children),
    InvalidArgument (wrong kind of snapshot, bad key), DataLoss (damaged layer)."""

    @abstractmethod
    async def prepare(self, key: str, parent: str = "") -> Sequence[Mount]:
        """Makes an active snapshot on the committed `parent` and returns its mounts."""

    @abstractmethod
    async def view(self, key: str, parent: str = "") -> Sequence[Mount]:
        """As `prepare`, for a snapshot that refuses every write."""

    @abstractmethod
    async def commit(self, name: str, key: str) -> None:
        """Freezes the active snapshot `key` as `name`, durably. The key is free again."""

    @abstractmethod
    async def remove(self, key: str) -> None:
        """Removes a snapshot of any kind. Conflict, naming one child, if it has children.

        After it returns the key is free; the disk space may be given back a little later.
        """

    @abstractmethod
    async def mounts(self, key: str) -> Sequence[Mount]:
        """The mounts of an active snapshot or view, as `prepare` returned them."""

    @abstractmethod
    async def stat(self, key: str) -> SnapshotInfo: ...

    @abstractmethod
    async def usage(self, key: str) -> Usage: ...

    @abstractmethod
    def walk(self) -> AsyncIterator[SnapshotInfo]:
        """Every snapshot, in no order, equal to what `stat` says of it."""

    @abstractmethod
    async def apply(self, key: str, layer: int) -> LayerResult:
        """Unpacks a layer (OCI image-spec, layer.md) into the active snapshot `key`.

        `layer` is a descriptor that is read to its end: a tar, plain or compressed with gzip
        or zstd, found out from its first bytes. The caller closes it. An archive that names
        a path outside, or is damaged, raises DataLoss, and the snapshot is to be removed.
        """

    @abstractmethod
    async def diff(self, key: str, output: int | None = None) -> LayerResult:
        """Writes what the snapshot `key` (of any kind) changes against its parent, as a layer tar.

        `output` is a descriptor, of a file or a pipe; None only computes the result. The same
        content gives the same bytes each time, on every driver. The caller closes it.
        """


@runtime_checkable
class Reparenting(Protocol):
    """A driver whose active snapshots can be committed on another parent without a copy."""

    async def commit_onto(self, name: str, key: str, parent: str) -> None:
        """As `commit`, with the committed `parent` in the place of the one it was prepared on.

        What the snapshot changed stays; the caller knows that both parents hold the same
        files where it matters (an image, and the same image with mount points added).
        """
