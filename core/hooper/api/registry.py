"""Registry drivers: where images come from and go to (OCI distribution-spec)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec

from hooper.api.driver import Driver
from hooper.api.errors import Unsupported


class Platform(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"os_version": "os.version", "os_features": "os.features"}
):
    os: str = "linux"
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """OCI image-spec, descriptor.md."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str = ""


class Credentials(msgspec.Struct, frozen=True):
    """For one registry host, and sent to no other. One of password and identity_token is set."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    """A bearer token to be sent as it is."""


class Manifest(msgspec.Struct, frozen=True):
    """A manifest or index as the registry has it, verified against its digest."""

    descriptor: Descriptor
    content: bytes


class SearchResult(msgspec.Struct, frozen=True):
    """A repository that was found."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


class RegistryClient(ABC):
    """A conversation with one registry; it keeps connections and tokens. Repositories are the names
    on that registry ("library/debian").

    Errors: NotFound, Unauthorized (the remedy is a login), Forbidden, Unavailable (after retries; says
    which host and what happened), DataLoss (a digest or size is wrong).
    """

    @abstractmethod
    async def resolve(self, repository: str, reference: str) -> Manifest:
        """The manifest or index that a tag or digest names."""

    @abstractmethod
    def fetch(
        self, repository: str, blob: Descriptor, offset: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The blob's bytes from `offset` on. The caller verifies size and digest of the whole."""

    @abstractmethod
    async def has_blob(self, repository: str, digest: str) -> bool: ...

    @abstractmethod
    async def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        """Takes a blob over from another repository of this registry; False if it declined."""

    @abstractmethod
    async def push_blob(self, repository: str, blob: Descriptor, read: Callable[[int], AsyncIterator[bytes]]) -> None:
        """Uploads a blob. `read(offset)` gives its bytes, and is called again to resume."""

    @abstractmethod
    async def push_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """`reference` is a tag or the manifest's own digest. All it names has been pushed before."""

    @abstractmethod
    async def tags(self, repository: str) -> Sequence[str]: ...

    @abstractmethod
    async def delete(self, repository: str, reference: str) -> None: ...

    @abstractmethod
    async def referrers(self, repository: str, digest: str) -> Sequence[Descriptor]: ...

    async def has_manifest(self, repository: str, reference: str, digest: str) -> bool:
        """Whether a tag is known to name the manifest of this digest already; False where that costs too much."""
        return False

    async def search(self, term: str, limit: int) -> Sequence[SearchResult]:
        """At most `limit` repositories whose name or description has the term. Unsupported."""
        raise Unsupported("this registry has no search", remedy="Pull by name.")

    @abstractmethod
    async def check_login(self) -> str:
        """Proves the credentials, Unauthorized if refused; returns an identity token, or ""."""


class RegistryDriver(Driver):
    @abstractmethod
    def connect(self, host: str, credentials: Credentials | None) -> AbstractAsyncContextManager[RegistryClient]:
        """`host` is "docker.io", "registry.example:5000", "127.0.0.1:5000". Nothing is sent yet."""
