"""The engine's content as a registry would have it: blobs by digest, and the manifests of its images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from hooper.api.reference import Reference
from hooper.api.registry import Manifest


class Content(ABC):
    """Digests are sha256. What an owner keeps outlives the daemon, until it is released."""

    @abstractmethod
    def open(self, digest: str) -> int:
        """A descriptor to read a blob from; the caller closes it. NotFound."""

    @abstractmethod
    async def add(self, file: Path, digest: str, owner: str) -> None:
        """Moves a complete file, which the caller has verified, into the content, durably; the owner keeps it."""

    @abstractmethod
    def keep(self, digest: str, owner: str) -> None:
        """Keeps a blob from being collected. NotFound if it is not there."""

    @abstractmethod
    def release(self, digest: str, owner: str) -> None:
        """Keeps it no longer: the next `collect` removes it if nothing else needs it. Harmless if it was not kept."""

    @abstractmethod
    def kept(self, owner: str) -> Sequence[str]:
        """The digests that an owner keeps."""

    @abstractmethod
    async def collect(self) -> None:
        """Removes what nobody keeps and no image needs."""

    @abstractmethod
    def tagged(self) -> Sequence[Reference]:
        """All tags of images."""

    @abstractmethod
    async def manifest(self, reference: Reference) -> Manifest:
        """The manifest of an image by tag, or what its name has by digest. NotFound.

        An image that was built here gets one now: its layers are compressed, once. All that the manifest names is in
        the content then.
        """

    @abstractmethod
    def holds(self, name: str, digest: str) -> bool:
        """Whether a manifest or index of the images of a full name ("docker.io/library/busybox") names the blob."""
