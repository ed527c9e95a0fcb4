"""What a builder is offered: steps on snapshots, images, the cache."""

from __future__ import annotations

import codecs
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from hooper.api.builder import (
    BuildRequest,
    BuildServices,
    BuildState,
    CopySource,
    CopyStep,
    Progress,
    RunStep,
    SourceEntry,
)
from hooper.api.errors import NotFound, StepFailed
from hooper.api.manifests import parse_platform
from hooper.api.model import Image, ImageConfig, ImageSummary, RootFS
from hooper.api.reference import Reference
from hooper.api.storage import Mount
from hooper.engine.build_cache import BuildCache
from hooper.engine.build_files import BuildFiles, Place
from hooper.engine.build_layers import BuildLayers
from hooper.engine.downloads import download
from hooper.engine.layers import Layer

if TYPE_CHECKING:
    from hooper.engine.images import ImageService


class Runner(Protocol):
    """Runs the commands of steps in containers."""

    async def init_layer(self, chain: str) -> str:
        """The committed snapshot to prepare a step's own on: the file system with mount points added."""

    async def run_step(
        self,
        mounts: Sequence[Mount],
        step: RunStep,
        image_config: ImageConfig,
        *,
        network_mode: str,
        request: BuildRequest,
        output: Callable[[str, bytes], Awaitable[None]],
    ) -> int:
        """The exit code of the command. Nothing of its container is left, also when cancelled."""


class Services(BuildServices):
    """One a build."""

    def __init__(
        self,
        request: BuildRequest,
        progress: Progress,
        *,
        images: ImageService,
        layers: BuildLayers,
        cache: BuildCache,
        files: BuildFiles,
        runner: Runner,
        directory: Path,
    ) -> None:
        self._request, self._progress, self._images, self._layers = request, progress, images, layers
        self._cache, self._files, self._runner, self._directory = cache, files, runner, directory

    # --- states ---------------------------------------------------------------------------------------

    async def scratch(self, platform: str) -> BuildState:
        wanted = parse_platform(platform)
        return BuildState(
            ImageConfig(),
            key=f"scratch/{wanted.architecture}/{wanted.variant}",
            architecture=wanted.architecture,
            variant=wanted.variant,
        )

    async def image(self, reference: str, platform: str, pull: bool) -> BuildState:
        found = None if pull else await self._stored(reference, platform)
        if found is None:
            found = await self._pulled(reference, platform)
        self._layers.hold(found.chain)
        image = found.image
        return BuildState(
            image.config,
            chain=found.chain,
            diff_ids=tuple(image.rootfs.diff_ids),
            history=tuple(image.history),
            key=found.id,
            image_id=found.id,
            architecture=image.architecture,
            variant=image.variant,
            created=image.created,
        )

    async def _stored(self, reference: str, platform: str) -> ImageSummary | None:
        try:
            found = await self._images.get(reference)
        except NotFound:
            return None
        if not platform:
            return found
        wanted = parse_platform(platform)
        fits = found.image.architecture == wanted.architecture and (
            not wanted.variant or found.image.variant == wanted.variant
        )
        return found if fits else None

    async def _pulled(self, reference: str, platform: str) -> ImageSummary:
        credentials = self._request.credentials.get(Reference.parse(reference).host)
        image_id = await self._images.pull(
            reference, self._progress.message, platform=platform, credentials=credentials
        )
        return await self._images.get(image_id)

    async def cached(self, key: str) -> BuildState | None:
        state = self._cache.get(key)
        if state is not None:
            self._layers.hold(state.chain)
        return state

    async def remember(self, state: BuildState) -> None:
        self._cache.put(state)

    async def finish(self, state: BuildState, image: Image | None = None) -> str:
        if image is None:
            image = Image(
                architecture=state.architecture,
                os="linux",
                variant=state.variant,
                config=state.config,
                rootfs=RootFS(list(state.diff_ids)),
                history=list(state.history),
                created=state.created,
            )
        return await self._images.create_image(image, state.chain)

    # --- steps ----------------------------------------------------------------------------------------

    async def run(self, state: BuildState, step: RunStep) -> BuildState:
        parent = await self._runner.init_layer(state.chain)
        async with self._layers.snapshot(parent) as (key, mounts):
            code = await self._runner.run_step(
                mounts,
                step,
                state.config,
                network_mode=step.network_mode or self._request.network_mode,
                request=self._request,
                output=self._output(),
            )
            if code:
                raise StepFailed(
                    f"The command '{' '.join(step.args)}' returned a non-zero code: {code}", exit_code=code
                )
            return _on_top(state, await self._layers.keep_onto(key, state.chain))

    def _output(self) -> Callable[[str, bytes], Awaitable[None]]:
        """Shows what one command writes; a character may come in two pieces."""
        decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}

        async def show(stream: str, data: bytes) -> None:
            if text := decoders[stream].decode(data):
                await self._progress.stream(text)

        return show

    async def copy(self, state: BuildState, step: CopyStep) -> BuildState:
        sources = [(await self._place(source), source.paths) for source in step.sources]
        async with self._layers.snapshot(state.chain) as (key, mounts):
            await self._files.copy(mounts, sources, step)
            return _on_top(state, await self._layers.keep(key, state.chain))

    async def make_directory(self, state: BuildState, path: str, user: str) -> BuildState:
        async with self._layers.snapshot(state.chain) as (key, mounts):
            if await self._files.make_directory(mounts, path, user):
                return _on_top(state, await self._layers.keep(key, state.chain))
            await self._layers.discard(key)
            return state

    # --- reading --------------------------------------------------------------------------------------

    async def list_sources(self, source: CopySource) -> Sequence[SourceEntry]:
        if source.directory is not None:
            return await self._files.list(source.directory, source.paths)
        entries = self._files.known(source.chain, source.paths)
        if entries is None:
            entries = await self._files.list(await self._layers.view(source.chain), source.paths)
            self._files.keep(source.chain, source.paths, entries)
        return entries

    async def read_file(self, state: BuildState, path: str) -> bytes:
        return await self._files.read(await self._layers.view(state.chain), path)

    async def _place(self, source: CopySource) -> Place:
        return source.directory if source.directory is not None else await self._layers.view(source.chain)

    async def download(self, url: str) -> Path:
        place = self._directory / f"download-{os.urandom(4).hex()}"
        place.mkdir(mode=0o700)
        await download(url, place)
        return place


def _on_top(state: BuildState, layer: Layer) -> BuildState:
    return msgspec.structs.replace(state, chain=layer.chain_id, diff_ids=(*state.diff_ids, layer.diff_id), image_id="")
