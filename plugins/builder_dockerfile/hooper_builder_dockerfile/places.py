"""What names outside of a recipe stand for: images and named contexts, resolved side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import anyio
import msgspec

from hooper.api.build_graph import Copy, CopySource, GitSource, HttpSource, LocalSource, Node, Origin, Scratch
from hooper.api.builder import BuildRequest, BuildServices, NamedContext, ResolvedImage
from hooper.api.errors import HooperError, InvalidArgument
from hooper.api.git_url import GitUrl, parse_git_url
from hooper.api.reference import Reference
from hooper_builder_dockerfile.arguments import Arguments
from hooper_builder_dockerfile.faults import Location
from hooper_builder_dockerfile.ignoring import IGNORE_FILE, read_ignore_file
from hooper_builder_dockerfile.stages import SCRATCH

_RESERVED = (SCRATCH, "context")
"""No named context replaces these."""


@dataclass(frozen=True)
class Place:
    """Where files come from. `image` is None for a tree that is no file system of an image."""

    node: Node
    shown: str
    """What a person calls it."""
    image: ResolvedImage | None = None
    layered: bool = False
    """A file system, whose files have owners that mean something."""

    def file_system(self, name: str, origin: Origin) -> Node:
        """What a stage can begin with; a tree is copied into an empty file system."""
        if self.layered:
            return msgspec.structs.replace(self.node, name=name, origin=origin)
        source = CopySource(node=self.node, paths=("",), literal=True, shown=self.shown)
        return Copy(name=name, origin=origin, base=Scratch(), sources=(source,), destination="/")


@dataclass(frozen=True)
class Wanted:
    """A name, and the platform that an image of it is for ("": any)."""

    name: str
    platform: str


Blame = Callable[[HooperError], HooperError]
"""Gives an error the place that it is the fault of."""


class Places:
    def __init__(self, request: BuildRequest, services: BuildServices, arguments: Arguments) -> None:
        self._request, self._services, self._arguments = request, services, arguments
        self._found: dict[Wanted, Place] = {}
        self._local: dict[str, LocalSource] = {}

    def context(self) -> LocalSource:
        """The build context."""
        return self._local.setdefault("", LocalSource(name="[internal] load build context", context=""))

    def replacement(self, name: str, platform: str) -> tuple[str, NamedContext] | None:
        """The named context that stands for a stage or an image, and its name. Also names of a platform, "a::b"."""
        if not self._request.contexts or name.lower() in _RESERVED:
            return None
        platform = platform or self._arguments.predefined["TARGETPLATFORM"]
        for each in _spellings(name):
            for known in (f"{each}::{platform}", each):
                if (context := self._services.named_context(known)) is not None:
                    return known, context
        return None

    async def resolve(self, wanted: Iterable[tuple[Wanted, Blame]]) -> None:
        """Finds out what these are. Raises the error of the first that fails, and lets go of the others."""
        failed: list[Exception] = []
        missing = {name: blame for name, blame in wanted if name not in self._found}
        async with anyio.create_task_group() as tasks:

            async def find(name: Wanted, blame: Blame) -> None:
                try:
                    self._found[name] = await self._find(name)
                except Exception as error:
                    # Raised below: out of here it would be one of a group.
                    failed.append(blame(error) if isinstance(error, HooperError) else error)
                    tasks.cancel_scope.cancel()

            for name, blame in missing.items():
                tasks.start_soon(find, name, blame)
        if failed:
            raise failed[0]

    def __contains__(self, wanted: object) -> bool:
        return wanted in self._found

    def __getitem__(self, wanted: Wanted) -> Place:
        """What `resolve` has found."""
        return self._found[wanted]

    async def _find(self, wanted: Wanted) -> Place:
        replacement = self.replacement(wanted.name, wanted.platform)
        if replacement is not None:
            return await self._of_context(*replacement, wanted)
        if wanted.name == SCRATCH:
            return Place(Scratch(name="scratch"), "scratch", layered=True)
        return await self._image(wanted.name, wanted.platform)

    async def _image(self, reference: str, platform: str) -> Place:
        image = await self._services.image(reference, platform, self._request.pull)
        return Place(image.node, f"image {reference}", image, layered=True)

    async def _of_context(self, name: str, context: NamedContext, wanted: Wanted) -> Place:
        shown = f"context {name}"
        title = f"[context {name}] load from {'client' if context.kind == 'local' else context.value}"
        match context.kind:
            case "image" if context.value == SCRATCH:
                return Place(Scratch(name=title), shown, layered=True)
            case "image":
                return await self._image(context.value, wanted.platform)
            case "oci-layout":
                image = await self._services.layout_image(name)
                return Place(image.node, shown, image, layered=True)
            case "local":
                if name not in self._local:
                    self._local[name] = LocalSource(name=title, context=name)
                    await read_ignore_file(self._services, (IGNORE_FILE,), name)
                return Place(self._local[name], shown)
            case "git" | "url":
                return Place(self._fetched(context, name, title), shown)
        raise InvalidArgument(
            f"invalid context {name}",
            f'there is no kind "{context.kind}"',
            "There are: local, image, url, git, oci-layout.",
        )

    def _fetched(self, context: NamedContext, name: str, title: str) -> Node:
        """A repository, or a single file, which BuildKit calls "context"."""
        found = parse_git_url(context.value, loose=context.kind == "git")
        if found is None and context.kind == "git":
            raise InvalidArgument(
                f"invalid context {name}", f"{context.value} is no git URL", "Write https://HOST/X.git"
            )
        if found is None:
            return HttpSource(name=title, url=context.value, filename="context")
        return git_source(found, title, keep=self._arguments.keep_git_dir)


def git_source(url: GitUrl, name: str, *, keep: bool = False, checksum: str = "", origin: Origin | None = None) -> Node:
    """`keep` is what is done with .git if the URL does not say."""
    return GitSource(
        name=name,
        origin=origin,
        remote=url.remote,
        ref=url.ref,
        subdirectory=url.subdirectory,
        keep_git_dir=keep if url.keep_git_dir is None else url.keep_git_dir,
        checksum=checksum or url.checksum,
        submodules=url.submodules,
    )


def placed(error: HooperError, location: Location, prefix: str = "", word: str = "") -> HooperError:
    """The error, with file, line and an excerpt, unless it has a place already."""
    if not error.what.startswith(f"{location.file}:"):
        why = f"{prefix}{error.what}{f': {error.why}' if error.why else ''}"
        excerpt = location.excerpt(word)
        error.what, error.why = str(location), f"{why}\n{excerpt}" if excerpt else why
    return error


def _spellings(name: str) -> list[str]:
    """How a person may have written the name of an image or a stage."""
    names = [name, name.lower()]
    try:
        reference = Reference.parse(name).with_default_tag()
    except InvalidArgument:
        return names
    return list(dict.fromkeys([*names, reference.familiar.removesuffix(":latest"), reference.familiar, str(reference)]))
