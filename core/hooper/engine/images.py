"""The images of the engine, as front-ends see them: each use case from top to bottom."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hooper.api.driver import Workers
from hooper.api.engine import Deleted, Filters, Images, ProgressSink, Pruned, Variant
from hooper.api.errors import Conflict, DataLoss, HooperError, InvalidArgument, Unsupported
from hooper.api.manifests import (
    OCI_CONFIG,
    Index,
    decode_image,
    digest_of,
    host_architecture,
    parse_manifest,
    parse_platform,
)
from hooper.api.model import History, Image, ImageSummary
from hooper.api.reference import Reference
from hooper.api.registry import Credentials, Descriptor, Platform, RegistryClient, SearchResult
from hooper.api.storage import StorageDriver
from hooper.engine import clock, filters, image_filters, searching
from hooper.engine.archives import Saver
from hooper.engine.archives_load import Loader
from hooper.engine.changes import apply_changes
from hooper.engine.distribution import Puller, RegistryFor
from hooper.engine.distribution_push import Pusher
from hooper.engine.gc import Collector
from hooper.engine.image_removal import Remover, User
from hooper.engine.image_store import ImageStore
from hooper.engine.layers import LayerStore
from hooper.engine.packing import Packer
from hooper.state.database import Database

if TYPE_CHECKING:
    from hooper.api.policy import ImagePolicy, Verification
    from hooper.content.store import ContentStore
    from hooper.engine.policy import PolicyGate

_CONFIG_MAX = 16 << 20
Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publishes an event: type, action, id, attributes."""


def _no_users(image_id: str) -> Sequence[tuple[str, str, bool]]:
    return ()


class ImageService(Images):
    """`containers_using` is set by whoever has the containers: of an image's id, the (id, name, runs) of each."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        storage: StorageDriver,
        storage_name: str,
        registry_for: RegistryFor,
        emit: Emit,
        workers: Workers,
        collector: Collector,
        log: Any,
    ) -> None:
        scratch = database.path.parent / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        collector.forget_leases()
        self.containers_using: Callable[[str], Sequence[tuple[str, str, bool]]] = _no_users
        self.layers = LayerStore(database, content, storage, storage_name)
        self.store = ImageStore(database, content)
        self.collector, self.workers = collector, workers
        self._emit, self.registry_for, self._log = emit, registry_for, log
        self.packer = Packer(self.layers, content, workers, scratch)
        self.puller = Puller(self.store, self.layers, content, registry_for)
        self.pusher = Pusher(self.store, self.layers, content, self.packer, registry_for)
        self.saver = Saver(self.store, self.layers, self.packer)
        self.loader = Loader(self.store, self.layers, self.packer, workers, scratch)
        self._remover = Remover(self.store, self.collector.collect, self._users, self.tell)
        self.gate: PolicyGate | None = None
        """Asked before an image is used; None: there are no image policies. Set by `guard`."""
        self.policy_verifier: Callable[[], Awaitable[ImagePolicy]] | None = None

    def _users(self, image_id: str) -> Sequence[User]:
        return [User(*user) for user in self.containers_using(image_id)]

    def tell(self, action: str, image_id: str, name: str = "") -> None:
        attributes = {"name": name or image_id}
        if self.store.exists(image_id):
            attributes = {**self.store.summary(image_id).labels, **attributes}
        self._emit("image", action, name if action == "pull" else image_id, attributes)

    # --- looking --------------------------------------------------------------------------------------

    async def list(self, *, all: bool = False, filters: Filters | None = None) -> Sequence[ImageSummary]:
        images = [self.store.summary(image_id) for image_id in self.store.ids()]
        if not all:
            images = [i for i in images if i.tags or i.digests or not self.store.children(i.id)]
        return image_filters.select(images, filters or {}, self._get)

    async def get(self, name: str, *, platform: str = "") -> ImageSummary:
        return self.store.summary(self.store.for_platform(name, platform))

    async def variants(self, image: ImageSummary) -> Sequence[Variant]:
        found = [self.store.summary(one) for one in self.store.variants(image.id)]
        used = {one.id: [user.container_id for user in self._users(one.id)] for one in found}
        return [Variant(one, *self._manifest_of(one), used[one.id]) for one in found]

    def _manifest_of(self, image: ImageSummary) -> tuple[Descriptor, int]:
        """The manifest that the image came with, or else its configuration; and the bytes of it that are here."""
        for manifest, parsed in self.pusher.kept(image.id):
            here = [blob for blob in (parsed.config, *parsed.layers) if self.layers.content.has(blob.digest)]
            return manifest.descriptor, sum(blob.size for blob in here)
        size = self.layers.content.size(image.id)
        return Descriptor(OCI_CONFIG, image.id, size), size

    def _get(self, name: str) -> ImageSummary:
        return self.store.summary(self.store.resolve(name)[0])

    async def layer_sizes(self, image: ImageSummary) -> Sequence[int]:
        return [layer.size for layer in self.layers.ancestry(image.chain)]

    # --- registries -----------------------------------------------------------------------------------

    async def pull(
        self,
        reference: str,
        progress: ProgressSink,
        *,
        platform: str = "",
        all_tags: bool = False,
        credentials: Credentials | None = None,
    ) -> str:
        parsed, credentials = await self._meant(reference, credentials, all_tags=all_tags)
        if all_tags and not parsed.tag and not parsed.digest:
            image_id = await self.puller.pull_all(parsed, progress, platform, credentials)
        else:
            parsed = parsed.with_default_tag()
            image_id = await self.puller.pull(parsed, progress, platform, credentials)
        self.tell("pull", image_id, parsed.familiar)
        return image_id

    async def _meant(
        self, text: str, credentials: Credentials | None, *, all_tags: bool
    ) -> tuple[Reference, Credentials | None]:
        """The reference that a name to be pulled means. A client's credentials are for the registry that it thinks
        of at a short name, which is Docker Hub, and go to no other."""
        given = Reference.parse(text)

        def for_host(host: str) -> Credentials | None:
            return credentials if host == given.host else None

        async def look(reference: Reference) -> object:
            async with self.puller.connected(reference, for_host(reference.host)) as client:
                if all_tags and not (reference.tag or reference.digest):
                    return await client.tags(reference.path)
                wanted = reference.with_default_tag()
                return await client.resolve(wanted.path, wanted.digest or wanted.tag)

        found = await self.store.short_names.find(text, look)
        return found, for_host(found.host)

    async def search(
        self, term: str, *, limit: int = 25, filters: Filters | None = None, credentials: Credentials | None = None
    ) -> Sequence[SearchResult]:
        return await searching.search(
            term, limit, filters or {}, credentials, self.registry_for, self.store.short_names.places
        )

    async def push(
        self, reference: str, progress: ProgressSink, *, credentials: Credentials | None = None, platform: str = ""
    ) -> None:
        parsed = Reference.parse(reference)
        if parsed.digest:
            raise InvalidArgument("cannot push a digest reference", remedy="Push a tag.")
        await self.pusher.push(
            parsed, progress, credentials, lambda image_id: self.store.for_platform(image_id, platform)
        )
        self._emit("image", "push", parsed.familiar, {"name": parsed.familiar_name})

    async def login(self, host: str, credentials: Credentials) -> str:
        async with (await self.registry_for(host)).connect(host, credentials) as client:
            return await client.check_login()

    async def distribution(
        self, reference: str, credentials: Credentials | None = None
    ) -> tuple[Descriptor, Sequence[Any]]:
        parsed = Reference.parse(reference).with_default_tag()
        async with self.puller.connected(parsed, credentials) as client:
            top = await client.resolve(parsed.path, parsed.digest or parsed.tag)
            content = parse_manifest(top, parsed.familiar)
            if isinstance(content, Index):
                return top.descriptor, [entry.platform for entry in content.manifests if entry.platform]
            return top.descriptor, [await remote_platform(client, parsed.path, content.config, parsed.familiar)]

    # --- policies -------------------------------------------------------------------------------------

    def guard(self, gate: PolicyGate) -> None:
        """Has the policies asked wherever an image comes in, goes out or is used."""
        self.gate = self.puller.gate = self.pusher.gate = gate

    async def verify(
        self,
        reference: str,
        keys: Sequence[str],
        *,
        identities: Sequence[str] = (),
        credentials: Credentials | None = None,
    ) -> Verification:
        """See Images."""
        from hooper.engine.policy import verify

        if self.policy_verifier is None:
            raise Unsupported("this engine has no image policies")
        parsed = Reference.parse(reference).with_default_tag()
        policy = await self.policy_verifier()
        async with self.puller.connected(parsed, credentials) as client:
            return await verify(policy, self.store, self.registry_for, client, parsed, keys, identities)

    # --- names and removal ----------------------------------------------------------------------------

    async def tag(self, name: str, reference: str) -> None:
        image_id, _ = self.store.resolve(name)
        parsed = Reference.parse(reference).with_default_tag()
        if parsed.digest:
            raise InvalidArgument("refusing to create a tag with a digest reference", remedy="Give a tag.")
        self.store.tag(parsed, image_id)
        self.tell("tag", image_id, parsed.familiar)

    async def remove(
        self, name: str, *, force: bool = False, prune: bool = True, platforms: Sequence[str] = ()
    ) -> Sequence[Deleted]:
        if not platforms:
            return await self._remover.remove(name, force)
        removed: list[Deleted] = []
        for variant in dict.fromkeys([self.store.for_platform(name, platform) for platform in platforms]):
            if len(self.store.variants(variant)) == 1:
                removed += await self._remover.remove(name, force)
                continue
            self.store.hand_over(variant)
            if not self.store.tags(variant):
                removed += await self._remover.remove(variant, force)
        return removed

    async def prune(self, filters: Filters) -> Pruned:
        removed: list[str] = []
        for image in self._prunable(filters):
            try:
                records = self._remover.forget(image.id, force=True)
            except Conflict:
                continue
            removed += [record.deleted or record.untagged for record in records]
        self.collector.forget_left()
        collected = await self.collector.collect()
        self._emit("image", "prune", "", {"reclaimed": str(collected.space)})
        return Pruned([*removed, *collected.layers], collected.space)

    def _prunable(self, wanted: Filters) -> Sequence[ImageSummary]:
        rest = {name: values for name, values in wanted.items() if name != "dangling"}
        filters.check(rest, ("label", "label!", "until"))
        images = [self.store.summary(image_id) for image_id in self.store.ids()]
        dangling = filters.is_true(wanted.get("dangling", ("true",)))
        found = image_filters.select(images, rest, self._get)
        return [
            image for image in found if not (dangling and self._named(image)) and not self.containers_using(image.id)
        ]

    def _named(self, image: ImageSummary) -> bool:
        """Whether a tag names the image, or one from the same index for another platform."""
        return bool(image.tags) or any(self.store.tags(one) for one in self.store.variants(image.id))

    # --- archives -------------------------------------------------------------------------------------

    async def save(self, names: Sequence[str], output: int, *, platform: str = "") -> None:
        for image_id in await self.saver.save(names, output, platform):
            self.tell("save", image_id)

    async def load(self, archive: int, progress: ProgressSink, *, platform: str = "") -> Sequence[str]:
        if self.gate is not None:
            await self.gate.loading()
        shown = []
        for image_id, tags in await self.loader.load(archive, progress, platform):
            texts = [f"Loaded image: {tag.familiar}" for tag in tags] or [f"Loaded image ID: {image_id}"]
            for text in texts:
                await progress({"stream": f"{text}\n"})
            shown += [tag.familiar for tag in tags] or [image_id]
            self.tell("load", image_id)
        return shown

    async def import_tar(
        self, archive: int, *, reference: str = "", message: str = "", changes: Sequence[str] = (), platform: str = ""
    ) -> str:
        wanted = parse_platform(platform)
        tags = [str(Reference.parse(reference).with_default_tag())] if reference else []
        if self.gate is not None:
            await self.gate.loading(reference, imported=True)
        now = clock.rfc3339()
        history = [History(created=now, comment=message or "Imported from -")]
        image = Image(
            architecture=wanted.architecture, os=wanted.os, variant=wanted.variant, created=now, history=history
        )
        apply_changes(image.config, changes)
        with self.layers.lease() as lease:
            layer = await self.loader.import_layer(archive, lease)
            image_id = await self.create_image(image, layer.chain_id, tags)
        self.tell("import", image_id)
        return image_id

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
        """As `import_tar`, of a tar that this host downloads."""
        from hooper.api.build_graph import HttpSource
        from hooper.engine.downloads import obtain

        await progress({"status": f"Downloading from {url}"})
        with tempfile.TemporaryDirectory(dir=self.packer.scratch(), prefix="import-") as directory:
            try:
                await obtain(HttpSource(url=url, filename="archive"), Path(directory), self.workers)
            except HooperError as error:
                raise type(error)(f"cannot import {url}", error.why or error.what, error.remedy) from error
            with (Path(directory) / "tree" / "archive").open("rb", buffering=0) as file:
                return await self.import_tar(
                    file.fileno(),
                    reference=reference,
                    message=message or f"Imported from {url}",
                    changes=changes,
                    platform=platform,
                )

    async def from_layout(self, directory: Path, reference: str) -> ImageSummary:
        """Stores the one image of an OCI image layout, under no name. InvalidArgument if there is not just one."""

        async def quiet(message: dict[str, Any]) -> None:
            """Nobody waits for progress here."""

        if self.gate is not None:
            await self.gate.loading(reference)
        loaded = dict(await self.loader.load_layout(directory, quiet))
        if len(loaded) != 1:
            raise InvalidArgument(
                f"cannot use the image layout {reference}", f"it has {len(loaded)} images", "Give one with one image."
            )
        return await self.get(next(iter(loaded)))

    # --- for builds and commits -----------------------------------------------------------------------

    async def create_image(self, image: Image, chain: str, tags: Sequence[str] = (), parent: str = "") -> str:
        """Stores an image on layers that exist (`chain`, "" for none) and returns its id."""
        layers = self.layers.ancestry(chain)
        image.rootfs.diff_ids = [layer.diff_id for layer in layers]
        image.architecture = image.architecture or host_architecture()
        config = msgspec.json.encode(image)
        with self.layers.lease() as lease:
            lease.add("layer", chain)
            image_id = await self.layers.put(config, OCI_CONFIG)
            self.store.add(image_id, image, chain, sum(layer.size for layer in layers), parent)
            for tag in tags:
                reference = Reference.parse(tag).with_default_tag()
                self.store.tag(reference, image_id)
                self.tell("tag", image_id, reference.familiar)
        return image_id


async def remote_platform(client: RegistryClient, repository: str, config: Descriptor, shown: str) -> Platform:
    """What an image in a registry is for, by its configuration. DataLoss if that is too large, or is another one."""
    if config.size > _CONFIG_MAX:
        raise DataLoss(f"the configuration of {shown} is larger than {_CONFIG_MAX} bytes")
    async with client.fetch(repository, config) as chunks:
        content = b"".join([chunk async for chunk in chunks])
    if digest_of(content) != config.digest:
        raise DataLoss(f"the configuration of {shown} is damaged", f"wanted {config.digest}")
    image = decode_image(content, shown)
    return Platform(os=image.os, architecture=image.architecture, variant=image.variant)
