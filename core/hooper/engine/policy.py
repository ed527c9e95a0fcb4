"""Asking the image policies. This module is imported only where the configuration enables one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from hooper.api.errors import DataLoss, Forbidden, HooperError
from hooper.api.manifests import ImageManifest, Index, decode_image, digest_of, parse_manifest
from hooper.api.policy import ImagePolicy, ImageSubject, Origin, PolicyServices, Purpose, Verification
from hooper.api.reference import Reference
from hooper.api.registry import Descriptor, Manifest, RegistryClient, RegistryDriver
from hooper.api.specs import Kind
from hooper.engine.image_store import ImageStore

if TYPE_CHECKING:
    from hooper.plugins.selection import Selector

RegistryFor = Callable[[str], Awaitable[RegistryDriver]]

_SECONDS = 60.0
"""As long may one policy take over one image."""
_REMEMBERED = 4096
_CONFIG_MAX = 16 << 20
_USES = {
    Purpose.PULL: "pulled",
    Purpose.RUN: "run",
    Purpose.BUILD: "built from",
    Purpose.PUSH: "pushed",
    Purpose.LOAD: "loaded",
    Purpose.IMPORT: "imported",
}


class _Key(msgspec.Struct, frozen=True):
    """What a decision depends on, beside the policies' own settings, which last as long as the daemon."""

    purpose: Purpose
    given: str
    image_id: str
    origins: tuple[Origin, ...]


class PolicyGate:
    """Lets an image through when all policies agree. Its methods raise Forbidden.

    `policies` has, for a policy that could not be loaded, the reason instead: then nothing passes.
    """

    def __init__(
        self, policies: Mapping[str, ImagePolicy | str], images: ImageStore, registry_for: RegistryFor, log: Any
    ) -> None:
        self._policies, self._images, self._registry_for, self._log = policies, images, registry_for, log
        self._allowed: OrderedDict[_Key, None] = OrderedDict()

    async def pull(
        self, client: RegistryClient | None, reference: Reference, top: Manifest, manifest: Manifest, config: Descriptor
    ) -> None:
        """Before anything of an image is stored. Without a client it comes from no registry, but is called so."""
        if client is None:
            await self.loading(reference.familiar)
            return
        origin = origin_of(reference, top, manifest)
        services = Services(self._images, self._registry_for, client, origin, config)
        await self._decide(
            ImageSubject(Purpose.PULL, reference.familiar, reference, config.digest, (origin,), services)
        )

    async def run(self, given: str, image_id: str) -> None:
        """Before a container is made of an image, or mounts it, or comes here with it. `given` may be an id."""
        await self._use(Purpose.RUN, given, image_id)

    async def build(self, given: str, image_id: str) -> None:
        """Before a build begins with an image, or copies from it."""
        await self._use(Purpose.BUILD, given, image_id)

    async def _use(self, purpose: Purpose, given: str, image_id: str) -> None:
        reference = self._named(given, image_id)
        origins = self._origins(image_id, reference)
        services = Services(self._images, self._registry_for, image_id=image_id)
        await self._decide(ImageSubject(purpose, given, reference, image_id, origins, services))

    async def push(self, tag: Reference, image_id: str) -> None:
        """Before an image is sent to where `tag` says."""
        services = Services(self._images, self._registry_for, image_id=image_id)
        origins = self._origins(image_id, None)
        await self._decide(ImageSubject(Purpose.PUSH, tag.familiar, tag, image_id, origins, services))

    async def loading(self, given: str = "", *, imported: bool = False) -> None:
        """Before an archive is read. `given`: what the image will be called, or its layout is; "" if nobody says."""
        purpose = Purpose.IMPORT if imported else Purpose.LOAD
        services = Services(self._images, self._registry_for)
        await self._decide(ImageSubject(purpose, given, None, "", (), services))

    # --- the decision ---------------------------------------------------------------------------------

    async def _decide(self, subject: ImageSubject) -> None:
        key = _Key(subject.purpose, subject.given, subject.image_id, subject.origins)
        if key in self._allowed:
            self._allowed.move_to_end(key)
            return
        for name, policy in self._policies.items():
            await self._ask(name, policy, subject)
        self._allowed[key] = None
        if len(self._allowed) > _REMEMBERED:
            self._allowed.popitem(last=False)

    async def _ask(self, name: str, policy: ImagePolicy | str, subject: ImageSubject) -> None:
        if isinstance(policy, str):
            raise _failed(name, subject, policy, "Mend it, or take it out of policy.enabled.")
        try:
            with anyio.fail_after(_SECONDS):
                await policy.decide(subject)
        except Forbidden as error:
            why = f"{error.what}: {error.why}" if error.why else error.what
            raise Forbidden(f'the policy "{name}" denies {_use(subject)}', why, error.remedy) from error
        except HooperError as error:
            why = f"{error.what}: {error.why}" if error.why else error.what
            raise _failed(name, subject, why, error.remedy) from error
        except TimeoutError as error:
            raise _failed(name, subject, f"it took longer than {_SECONDS:.0f} seconds") from error
        # A policy that breaks has not agreed, however it breaks.
        except Exception as error:
            self._log.exception("an image policy failed", policy=name, image=subject.given)
            raise _failed(name, subject, f"{type(error).__name__}: {error}") from error

    # --- what is known --------------------------------------------------------------------------------

    def _named(self, given: str, image_id: str) -> Reference | None:
        """The reference that a user meant, if it was one that names the image."""
        try:
            found, reference = self._images.resolve(given)
        except HooperError:
            return None
        return reference if found == image_id else None

    def _origins(self, image_id: str, reference: Reference | None) -> tuple[Origin, ...]:
        tags = [Reference.parse(text) for text in self._images.tags(image_id)]
        found = []
        for name, digest in self._images.origins(image_id):
            place = Reference.parse(name)
            own = tuple(tag.tag for tag in tags if tag.name == place.name)
            if reference is not None and reference.name == place.name and reference.tag:
                own = (reference.tag,)
            manifest = self._own_manifest(digest, image_id)
            found.append(Origin(place.host, place.path, digest, manifest, own))
        return tuple(found)

    def _own_manifest(self, digest: str, image_id: str) -> str:
        """The digest of the image's manifest, at or below one that is kept; "" if that is not known."""
        if not self._images.content.has(digest):
            return ""
        parsed = parse_manifest(stored_manifest(self._images, digest), digest)
        if isinstance(parsed, ImageManifest):
            return digest if parsed.config.digest == image_id else ""
        return next((d for entry in parsed.manifests if (d := self._own_manifest(entry.digest, image_id))), "")


class Services(PolicyServices):
    """For one image. `client` speaks with the registry of `source`, for a user; others are spoken to for nobody."""

    def __init__(
        self,
        images: ImageStore,
        registry_for: RegistryFor,
        client: RegistryClient | None = None,
        source: Origin | None = None,
        config: Descriptor | None = None,
        image_id: str = "",
    ) -> None:
        self._images, self._registry_for = images, registry_for
        self._client, self._source, self._config, self._image_id = client, source, config, image_id

    async def labels(self) -> Mapping[str, str]:
        """See PolicyServices."""
        if self._image_id and self._images.exists(self._image_id):
            return dict(self._images.summary(self._image_id).labels)
        if self._config is None or self._source is None:
            return {}
        config = await self.blob(self._source, self._config, _CONFIG_MAX)
        return decode_image(config, self._config.digest).config.labels or {}

    async def manifest(self, origin: Origin, reference: str) -> Manifest:
        """See PolicyServices."""
        if ":" in reference and self._images.content.has(reference):
            return stored_manifest(self._images, reference)
        async with self._talk(origin) as client:
            return await client.resolve(origin.repository, reference)

    async def blob(self, origin: Origin, blob: Descriptor, limit: int) -> bytes:
        """See PolicyServices."""
        if blob.size > limit:
            raise DataLoss(f"the blob {blob.digest} of {origin.name} is larger than {limit} bytes")
        content = bytearray()
        async with self._talk(origin) as client, client.fetch(origin.repository, blob) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) > blob.size:
                    break
        if digest_of(bytes(content)) != blob.digest:
            raise DataLoss(f"the blob {blob.digest} of {origin.name} is damaged", "its digest is another one")
        return bytes(content)

    async def referrers(self, origin: Origin, digest: str) -> Sequence[Descriptor]:
        """See PolicyServices."""
        async with self._talk(origin) as client:
            return await client.referrers(origin.repository, digest)

    @asynccontextmanager
    async def _talk(self, origin: Origin) -> AsyncIterator[RegistryClient]:
        if self._client is not None and self._source is not None and origin.host == self._source.host:
            yield self._client
            return
        async with (await self._registry_for(origin.host)).connect(origin.host, None) as client:
            yield client


def origin_of(reference: Reference, top: Manifest, manifest: Manifest) -> Origin:
    """The place that a reference names, which has `top` there, and `manifest` in it."""
    tags = (reference.tag,) if reference.tag else ()
    return Origin(reference.host, reference.path, top.descriptor.digest, manifest.descriptor.digest, tags)


def stored_manifest(images: ImageStore, digest: str) -> Manifest:
    """A manifest that is in the content store. Its media type is what it says itself."""
    content = images.content.path(digest).read_bytes()
    kind = msgspec.json.decode(content, type=dict[str, Any]).get("mediaType", "")
    return Manifest(Descriptor(kind, digest, len(content)), content)


def _use(subject: ImageSubject) -> str:
    shown = subject.given or subject.image_id or "an image"
    return f"that {shown} is {_USES[subject.purpose]}"


def _failed(name: str, subject: ImageSubject, why: str, remedy: str = "") -> Forbidden:
    what = f'the policy "{name}" could not agree that {subject.given or "an image"} is {_USES[subject.purpose]}'
    return Forbidden(what, why, remedy or "Until it works again no image passes; the daemon's log may tell more.")


async def open_gate(selector: Selector, images: ImageStore, registry_for: RegistryFor, log: Any) -> PolicyGate:
    """The gate of the policies that the configuration enables. InvalidArgument for wrong settings of one."""
    found: dict[str, ImagePolicy | str] = {}
    for name in selector.config["policy.enabled"]:
        record = selector.table.find(Kind.POLICY, name)
        driver = await selector.attempt(record) if record is not None and record.usable else None
        if driver is None:
            reason = record.reason if record is not None else "no plugin brings a policy of that name"
            log.error("an image policy cannot be loaded: no image may be used", policy=name, reason=reason)
        found[name] = driver if isinstance(driver, ImagePolicy) else reason if driver is None else "it is no policy"
    return PolicyGate(found, images, registry_for, log)


async def verify(
    policy: ImagePolicy,
    images: ImageStore,
    registry_for: RegistryFor,
    client: RegistryClient,
    reference: Reference,
    keys: Sequence[str],
    identities: Sequence[str],
) -> Verification:
    """Looks at the signatures that a registry has of an image; of an index, those of the index."""
    top = await client.resolve(reference.path, reference.digest or reference.tag)
    parsed = parse_manifest(top, reference.familiar)
    own = "" if isinstance(parsed, Index) else top.descriptor.digest
    tags = (reference.tag,) if reference.tag else ()
    origin = Origin(reference.host, reference.path, top.descriptor.digest, own, tags)
    services = Services(images, registry_for, client, origin)
    found = await policy.examine(origin, [key.encode() for key in keys], identities, services)
    return Verification(reference.familiar, top.descriptor.digest, tuple(found))
