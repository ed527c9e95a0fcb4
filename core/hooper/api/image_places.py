"""Images between places that are not this engine's list: registries, layouts, manifests by themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import msgspec

from hooper.api.engine import ProgressSink
from hooper.api.registry import Credentials, Manifest, Platform

AuthBy = Mapping[str, Credentials]
"""Credentials by registry host."""


class ListEntry(msgspec.Struct, frozen=True, rename="pascal"):
    """One manifest of a list that is pushed: a reference by digest, and for which platform it is."""

    ref: str
    platform: Platform | None = None


class FileChange(msgspec.Struct, frozen=True, rename="pascal"):
    """How a path of two images differs. `kind` is added, removed or changed; sizes in bytes, -1 where it is not."""

    path: str
    kind: str
    before: int = -1
    after: int = -1


class Difference(msgspec.Struct, frozen=True, rename="pascal"):
    """What is in the second image and not so in the first, and the other way round."""

    first: str
    second: str
    """Ids."""
    shared_layers: int
    """How many layers both begin with: their files are the same."""
    config: list[tuple[str, object, object]]
    """Field of the configuration, before, after."""
    files: list[FileChange]


class ImagePlaces(ABC):
    """Where a place is text: a reference, or a layout (`hooper.api.layout`), "oci-archive:/srv/app.tar:1". A layout
    whose path is "-" is the archive that the caller sends, or for a target, that it is sent: a descriptor."""

    @abstractmethod
    async def pull(
        self,
        source: str,
        progress: ProgressSink,
        *,
        archive: int = -1,
        name: str = "",
        file: str = "",
        platform: str = "",
    ) -> str:
        """Takes an image from a layout into the engine's list, under `name` ("": as it is called there, or if that is
        a tag alone, after the path `file`, or the layout's own). The image's id."""

    @abstractmethod
    async def push(self, name: str, target: str, progress: ProgressSink, *, output: int = -1) -> None:
        """Writes an image of the engine's list into a layout. NotFound before anything is written."""

    @abstractmethod
    async def copy(
        self,
        source: str,
        target: str,
        progress: ProgressSink,
        *,
        every: bool = False,
        preserve: bool = False,
        platform: str = "",
        credentials: AuthBy | None = None,
        archive: int = -1,
        output: int = -1,
    ) -> str:
        """From place to place, past the engine's list; the digest at the target. `every`: of an index all images,
        else the one for `platform`, "" being this host's.

        Digests stay between registries. A layout has OCI's manifests, of other digests than Docker's, unless
        `preserve`: then it may be one that not every tool reads.
        """

    @abstractmethod
    async def manifest(self, reference: str, credentials: AuthBy | None = None) -> Manifest:
        """What a registry has under a reference."""

    @abstractmethod
    async def push_list(
        self, target: str, entries: Sequence[ListEntry], credentials: AuthBy | None = None, *, oci: bool = False
    ) -> str:
        """Makes an index of manifests that registries have, bringing them to the target's repository, and pushes
        it; its digest."""

    @abstractmethod
    def temporary(self) -> AbstractContextManager[int]:
        """A descriptor of an empty file without a name, for an archive that came while another is sent."""

    @abstractmethod
    async def diff(self, first: str, second: str) -> Difference:
        """Two images of the engine's list."""
