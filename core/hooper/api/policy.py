"""Image policies: who decides whether an image may be used.

Every policy that the configuration enables is asked before an image is used, and all must agree. A policy that
fails, in whatever way, has not agreed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from hooper.api.driver import Driver
from hooper.api.errors import Unsupported
from hooper.api.reference import Reference
from hooper.api.registry import Descriptor, Manifest

VERIFY = "verify"
"""The capability of a policy that can `examine`, in its DriverSpec."""


class Purpose(StrEnum):
    """What an image is about to be used for."""

    PULL = "pull"
    """To be fetched from a registry. Nothing of it is stored yet."""
    RUN = "run"
    """To make a container of it, or to mount it into one."""
    BUILD = "build"
    """As what a build begins with, or copies from."""
    PUSH = "push"
    """To be sent to a registry."""
    LOAD = "load"
    """To be taken from an archive or an image layout. Nothing of it is known yet."""
    IMPORT = "import"
    """To be made of the files in an archive."""


class Origin(msgspec.Struct, frozen=True):
    """A place that is known to have the image: a registry that it was pulled from, or pushed to."""

    host: str
    """As in a normalised reference: "docker.io", "registry.example:5000"."""
    repository: str
    """The name on that registry: "library/debian"."""
    digest: str
    """Of what the registry names there: a manifest, or the index that it is in."""
    manifest: str = ""
    """Digest of the image's own manifest, the same as `digest` where there is no index; "" if nobody knows."""
    tags: tuple[str, ...] = ()
    """The tag that was asked for in this repository; else those that the image has here in it."""

    @property
    def name(self) -> str:
        """Host and repository, as `Reference.name`."""
        return f"{self.host}/{self.repository}"

    @property
    def digests(self) -> tuple[str, ...]:
        """Both digests, each once."""
        return tuple(digest for digest in dict.fromkeys((self.digest, self.manifest)) if digest)


class PolicyServices(ABC):
    """What a policy may ask about an image. All of it is fetched when it is asked for, and verified by its digest.

    Errors are those of `hooper.api.registry.RegistryClient`. At a pull the client's credentials are used; later there
    are none.
    """

    @abstractmethod
    async def labels(self) -> Mapping[str, str]:
        """The image's labels; none where the image is not known yet."""

    @abstractmethod
    async def manifest(self, origin: Origin, reference: str) -> Manifest:
        """What a tag or a digest names in the origin's repository. NotFound."""

    @abstractmethod
    async def blob(self, origin: Origin, blob: Descriptor, limit: int) -> bytes:
        """A blob of the origin's repository. DataLoss also if it is larger than `limit` bytes."""

    @abstractmethod
    async def referrers(self, origin: Origin, digest: str) -> Sequence[Descriptor]:
        """Manifests in the origin's repository whose subject has that digest."""


class ImageSubject(msgspec.Struct, frozen=True):
    """One image and what it is wanted for."""

    purpose: Purpose
    given: str
    """The image as the user named it, in short form at a pull and a push; "" where there is no name."""
    reference: Reference | None
    """The same, normalised; None for an id, or no name. At a push it is the destination."""
    image_id: str
    """Digest of the configuration; "" where it is not known yet."""
    origins: tuple[Origin, ...]
    """At a pull, the one place that it comes from; later, all that are known. None: it was made here, or loaded."""
    services: PolicyServices


class Finding(msgspec.Struct, frozen=True, rename="pascal"):
    """One signature that was looked at."""

    signature: str
    """Where it is, for a person."""
    good: bool
    reason: str = ""
    """Why it is not good."""
    key: str = ""
    """The key that made a good one: "SHA256:" and the digest of the public key, in hex."""
    digest: str = ""
    """What a good one signs."""
    identity: str = ""
    """The repository that it says it is for; "" if it says none."""
    notes: tuple[str, ...] = ()
    """What was not checked."""


class Verification(msgspec.Struct, frozen=True, rename="pascal"):
    """All signatures of an image."""

    reference: str
    digest: str
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """One good signature is enough."""
        return any(finding.good for finding in self.findings)


class ImagePolicy(Driver):
    """Decides on images. Its settings do not change while it is open."""

    @abstractmethod
    async def decide(self, subject: ImageSubject) -> None:
        """Returns if the image may be used for that purpose.

        Forbidden otherwise: `what` is the reason in a few words (which rule), `why` the cause, `remedy` what the user
        can do. The engine adds which image, which purpose and which policy. Any other error means the same. That
        an image may be used is remembered for as long as the daemon runs; that it may not is asked again.
        """

    async def examine(
        self, origin: Origin, keys: Sequence[bytes], identities: Sequence[str], services: PolicyServices
    ) -> Sequence[Finding]:
        """Looks at every signature of an image, for a person. `keys` are public keys in PEM.

        `identities` are patterns (fnmatch) of repositories that a signature may be for; none: that of the origin.
        Unsupported without the capability `VERIFY`; InvalidArgument for what is no key.
        """
        raise Unsupported("this policy verifies no signatures")
