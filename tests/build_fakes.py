"""What a builder is offered while it plans, kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import anyio
import pytest

from hooper.api.build_graph import ImageSource, Node
from hooper.api.builder import BuildRequest, BuildServices, BuildWarning, NamedContext, Plan, ResolvedImage
from hooper.api.errors import HooperError, InvalidArgument, NotFound
from hooper.api.model import ImageConfig
from hooper_builder_dockerfile.builder import DockerfileBuilder

NodeT = TypeVar("NodeT", bound=Node)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class FakeServices(BuildServices):
    """`files` are those of contexts, by context and path; `images` configurations by name, all of `architecture`."""

    images: dict[str, ImageConfig] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"": {}})
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    architecture: str = "amd64"
    variant: str = ""
    author: str = ""
    resolved: list[tuple[str, str, bool]] = field(default_factory=list)
    """Each call of `image`, in order."""
    at_once: int = 0
    """The most images that were being looked for at the same time."""
    ignored: dict[str, tuple[list[str], str]] = field(default_factory=dict)
    """Patterns and their file, by context."""
    layouts: list[str] = field(default_factory=list)
    _looking: int = 0

    async def read(self, path: str, context: str = "") -> bytes | None:
        if context not in self.files:
            raise InvalidArgument("there is no build context", "the client sent none", "Give a directory.")
        if path.startswith("../"):
            raise InvalidArgument(path, "forbidden path outside the build context")
        return self.files[context].get(path)

    def ignore(self, patterns: Sequence[str], file: str, context: str = "") -> None:
        self.ignored[context] = (list(patterns), file)

    async def image(self, reference: str, platform: str = "", pull: bool = False) -> ResolvedImage:
        self.resolved.append((reference, platform, pull))
        self._looking += 1
        self.at_once = max(self.at_once, self._looking)
        try:
            await anyio.lowlevel.checkpoint()
            return self._image(reference)
        finally:
            self._looking -= 1

    def _image(self, reference: str) -> ResolvedImage:
        if reference not in self.images:
            raise NotFound(f"No such image: {reference}", "it is nowhere", "Check its name.")
        digest = digest_of(reference)
        return ResolvedImage(
            node=ImageSource(name=reference, reference=reference, image_id=f"sha256:{digest}", chain=f"c-{reference}"),
            config=self.images[reference],
            architecture=self.architecture,
            variant=self.variant,
            author=self.author,
        )

    def named_context(self, name: str) -> NamedContext | None:
        return self.contexts.get(name)

    async def layout_image(self, name: str) -> ResolvedImage:
        self.layouts.append(name)
        return self._image(self.contexts[name].value)

    @property
    def host_platform(self) -> str:
        return "linux/amd64"

    def requested(self, request: BuildRequest) -> BuildRequest:
        """Takes the named contexts of a request."""
        self.contexts = request.contexts
        return request


BASE = ImageConfig(env=["PATH=/bin"], cmd=["sh"], working_dir="/w")


@dataclass
class Bench:
    """A builder with services in memory, of which the image "base" is always there."""

    services: FakeServices = field(default_factory=lambda: FakeServices(images={"base": BASE}))

    def write(self, files: Mapping[str, str | bytes], context: str = "") -> None:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            self.services.files.setdefault(context, {})[name] = data

    def plan(self, text: str, **request: Any) -> Plan:
        self.write({"Dockerfile": text})
        wanted = self.services.requested(BuildRequest(**request))
        return anyio.run(DockerfileBuilder(cast(Any, None)).plan, wanted, self.services)

    def check(self, text: str, **request: Any) -> Sequence[BuildWarning]:
        self.write({"Dockerfile": text})
        wanted = self.services.requested(BuildRequest(**request))
        return anyio.run(DockerfileBuilder(cast(Any, None)).check, wanted, self.services)

    def fails(self, text: str, kind: type[HooperError] = InvalidArgument, **request: Any) -> str:
        """The text of the error that a recipe ends with."""
        with pytest.raises(HooperError) as caught:
            self.plan(text, **request)
        assert type(caught.value) is kind
        return str(caught.value)


def nodes(plan: Plan) -> list[Node]:
    """All that the result needs, inputs first; of several inputs the base's come first."""
    found: dict[Node, None] = {}

    def visit(node: Node) -> None:
        for needed in node.inputs():
            if needed not in found:
                visit(needed)
        found[node] = None

    visit(plan.result)
    return list(found)


def of_kind(plan: Plan, kind: type[NodeT]) -> list[NodeT]:
    return [node for node in nodes(plan) if isinstance(node, kind)]


def history(plan: Plan) -> list[str]:
    """What the image's history will say of the new steps."""
    return [step.created_by for step in plan.steps if step.stage in plan.stages and step.created_by]
