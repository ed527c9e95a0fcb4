"""What a builder is offered while it makes its plan, and where the trees of a plan come from."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from hooper.api import build_events as events
from hooper.api import build_graph as graph
from hooper.api.build_graph import ImageSource, Node
from hooper.api.build_session import BuildSession
from hooper.api.builder import BuildRequest, BuildServices, NamedContext, Progress, ResolvedImage
from hooper.api.errors import InvalidArgument, NotFound, Unsupported
from hooper.api.manifests import host_architecture, parse_platform
from hooper.api.model import ImageSummary
from hooper.api.reference import Reference
from hooper.content.mounting import open_in_root
from hooper.engine.build_contexts import Contexts, Received
from hooper.engine.build_layers import BuildLayers
from hooper.engine.build_sources import Tree

if TYPE_CHECKING:
    from hooper.engine.images import ImageService

_LARGEST_TEXT = 16 << 20


class Trees:
    """The trees of one build that are no layers; each is fetched once, and lasts until `aclose`."""

    def __init__(self, contexts: Contexts, session: BuildSession, context: Received | None, directory: Path) -> None:
        self._contexts, self._session, self._directory = contexts, session, directory
        self._received = {"": context} if context is not None else {}
        self._stack = AsyncExitStack()
        self._lock = anyio.Lock()

    async def context(self, name: str) -> Received:
        """The context "", or one that the session has under that name. InvalidArgument, NotFound."""
        async with self._lock:
            if name not in self._received:
                if not name:
                    raise InvalidArgument("there is no build context", "the client sent none", "Give a directory.")
                manager = self._contexts.of_session(self._session, name)
                self._received[name] = await self._stack.enter_async_context(manager)
            return self._received[name]

    def ignore(self, name: str, patterns: Sequence[str], file: str) -> None:
        """Leaves out of a context, which was read before, what the patterns of a file say."""
        if name in self._received:
            self._received[name].tree.ignore(patterns, file)

    async def tree(self, node: Node) -> Tree:
        """See build_operations.Fetch."""
        match node:
            case graph.LocalSource():
                return (await self.context(node.context)).tree
            case graph.HttpSource():
                return await self._stack.enter_async_context(self._contexts.of_download(node))
            case graph.GitSource():
                repository = self._contexts.of_repository(node, self._session)
                return await self._stack.enter_async_context(repository)
            case graph.InlineSource():
                return await anyio.to_thread.run_sync(self._written, node)
        raise Unsupported(f"cannot get the files of {node.name}", f"{type(node).__name__} is no source")

    def _written(self, node: graph.InlineSource) -> Tree:
        directory = self._directory / f"inline-{os.urandom(4).hex()}"
        directory.mkdir(mode=0o700)
        for file in node.files:
            path = directory / file.name
            path.write_bytes(file.data)
            path.chmod(file.mode)
            # Its time is no part of what was written: the same recipe makes the same layer.
            os.utime(path, (0, 0))
        return Tree.of_directory(directory, self._contexts.files, shown="the recipe")

    async def aclose(self) -> None:
        await self._stack.aclose()


class PlanServices(BuildServices):
    """One a build."""

    def __init__(
        self,
        request: BuildRequest,
        progress: Progress,
        *,
        images: ImageService,
        layers: BuildLayers,
        trees: Trees,
        pull: bool = True,
    ) -> None:
        """`pull`: whether images that are not here may be fetched."""
        self._request, self._progress, self._images = request, progress, images
        self._layers, self._trees, self._pull = layers, trees, pull
        self._resolved: dict[tuple[str, str], ResolvedImage] = {}
        self._locks: dict[tuple[str, str], anyio.Lock] = {}

    @property
    def host_platform(self) -> str:
        """See BuildServices."""
        return f"linux/{host_architecture()}"

    async def read(self, path: str, context: str = "") -> bytes | None:
        """See BuildServices."""
        directory = (await self._trees.context(context)).directory
        return await anyio.to_thread.run_sync(_read, directory, path)

    def ignore(self, patterns: Sequence[str], file: str, context: str = "") -> None:
        """See BuildServices."""
        self._trees.ignore(context, patterns, file)

    def named_context(self, name: str) -> NamedContext | None:
        """See BuildServices."""
        return self._request.contexts.get(name)

    async def image(self, reference: str, platform: str = "", pull: bool = False) -> ResolvedImage:
        """See BuildServices. Each is looked for once a build."""
        if platform and parse_platform(platform).os != "linux":
            raise InvalidArgument(
                f"cannot use {reference} for {platform}",
                "this engine has Linux images alone",
                "Write linux/ARCHITECTURE.",
            )
        key = reference, platform
        async with self._locks.setdefault(key, anyio.Lock()):
            if key not in self._resolved:
                found = None if pull else await self._stored(reference, platform)
                if found is None:
                    found = await self._pulled(reference, platform)
                if self._images.gate is not None:
                    await self._images.gate.build(reference, found.id)
                self._resolved[key] = self._resolve(reference, found)
        return self._resolved[key]

    async def layout_image(self, name: str) -> ResolvedImage:
        """See BuildServices."""
        context = await self._trees.context(name)
        return self._resolve(name, await self._images.from_layout(context.directory, name))

    def _resolve(self, reference: str, found: ImageSummary) -> ResolvedImage:
        self._layers.hold(found.chain)
        image = found.image
        return ResolvedImage(
            node=ImageSource(name=f"FROM {reference}", reference=reference, image_id=found.id, chain=found.chain),
            config=image.config,
            architecture=image.architecture,
            variant=image.variant,
            author=image.author,
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
        if not self._pull:
            raise NotFound(f"No such image: {reference}", "a check pulls none", "Pull it first.")
        credentials = self._request.credentials.get(Reference.parse(reference).host)

        async def emit(message: dict[str, object]) -> None:
            await self._progress.event(events.Pulling(message=message))

        image_id = await self._images.pull(reference, emit, platform=platform, credentials=credentials)
        return await self._images.get(image_id)


def _read(directory: Path, path: str) -> bytes | None:
    """A file in the directory, following links within it alone. InvalidArgument for one that leads out."""
    if os.path.normpath("/" + path) != "/" + os.path.normpath(path.lstrip("/")):
        raise InvalidArgument(path, "forbidden path outside the build context", "Name a file in the context.")
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _leads_out(directory, path):
            raise InvalidArgument(
                path, "forbidden path outside the build context", "Put the file into the context, not behind a link."
            )
        descriptor = open_in_root(root, os.fsencode(path.lstrip("/")), os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        os.close(root)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > _LARGEST_TEXT:
            raise InvalidArgument(path, "it is larger than 16 MiB", "Is it the right file?")
        return file.read()


def _leads_out(directory: Path, path: str) -> bool:
    root = os.path.realpath(directory)
    real = os.path.realpath(os.path.join(root, path.lstrip("/")))
    return real != root and not real.startswith(root + os.sep)
