"""The kit for builders: `BuilderConformance`, and `MemoryServices`, which offer a builder what the engine does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import msgspec
import pytest

from hooper.api.build_graph import ImageSource, Node, Run, Step
from hooper.api.builder import Builder, BuildRequest, BuildServices, BuildWarning, NamedContext, Plan, ResolvedImage
from hooper.api.errors import HooperError, InvalidArgument, NotFound
from hooper.api.model import ImageConfig

NodeT = TypeVar("NodeT", bound=Node)


@dataclass
class MemoryServices(BuildServices):
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
        """See BuildServices."""
        if context not in self.files:
            raise InvalidArgument("there is no build context", "the client sent none", "Give a directory.")
        if path.startswith("../"):
            raise InvalidArgument(path, "forbidden path outside the build context")
        await anyio.lowlevel.checkpoint()
        return self.files[context].get(path)

    def ignore(self, patterns: Sequence[str], file: str, context: str = "") -> None:
        """See BuildServices."""
        self.ignored[context] = (list(patterns), file)

    async def image(self, reference: str, platform: str = "", pull: bool = False) -> ResolvedImage:
        """See BuildServices."""
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
        digest = hashlib.sha256(reference.encode()).hexdigest()
        return ResolvedImage(
            node=ImageSource(name=reference, reference=reference, image_id=f"sha256:{digest}", chain=f"c-{reference}"),
            config=self.images[reference],
            architecture=self.architecture,
            variant=self.variant,
            author=self.author,
        )

    def named_context(self, name: str) -> NamedContext | None:
        """See BuildServices."""
        return self.contexts.get(name)

    async def layout_image(self, name: str) -> ResolvedImage:
        """See BuildServices."""
        self.layouts.append(name)
        return self._image(self.contexts[name].value)

    @property
    def host_platform(self) -> str:
        """See BuildServices."""
        return "linux/amd64"

    def requested(self, request: BuildRequest) -> BuildRequest:
        """Takes the named contexts of a request."""
        self.contexts = request.contexts
        return request


# --- what is in a plan --------------------------------------------------------------------------------


def nodes(plan: Plan) -> list[Node]:
    """All that the result needs, inputs first; of several inputs the base's come first. It must have no circle."""
    found: dict[Node, None] = {}
    stack: list[tuple[Node, Iterator[Node]]] = [(plan.result, plan.result.inputs())]
    on_the_way = {plan.result}
    while stack:
        node, inputs = stack[-1]
        needed = next(inputs, None)
        if needed is None:
            stack.pop()
            on_the_way.discard(node)
            found[node] = None
        elif needed in on_the_way:
            raise AssertionError(f"{needed.name} needs itself")
        elif needed not in found:
            on_the_way.add(needed)
            stack.append((needed, needed.inputs()))
    return list(found)


def of_kind(plan: Plan, kind: type[NodeT]) -> list[NodeT]:
    """Those of `nodes` that are of a kind."""
    return [node for node in nodes(plan) if isinstance(node, kind)]


def described(plan: Plan) -> object:
    """All that a plan says, in values that can be compared: nodes are numbers in the order of `nodes`."""
    numbers = {node: number for number, node in enumerate(nodes(plan))}

    def plain(value: object) -> object:
        if isinstance(value, Node):
            # A step of a stage that the result does not need has none.
            return numbers.get(value, value.name)
        if isinstance(value, msgspec.Struct):
            return type(value).__name__, fields(value)
        if isinstance(value, list | tuple):
            return tuple(plain(each) for each in value)
        return value

    def fields(value: msgspec.Struct) -> dict[str, object]:
        return {name: plain(each) for name, each in msgspec.structs.asdict(value).items()}

    return [(type(node).__name__, fields(node)) for node in numbers], fields(plan)


def mentioned(value: object) -> Iterator[Node]:
    """The nodes that the fields of a node have in them, whatever `inputs` says."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from mentioned(each)
    elif isinstance(value, msgspec.Struct):
        for each in msgspec.structs.asdict(value).values():
            if isinstance(each, Node):
                yield each
            else:
                yield from mentioned(each)


# --- the suite ----------------------------------------------------------------------------------------

BASE = ImageConfig(env=["PATH=/bin"], cmd=["sh"], labels={"of-base": "1"})


class BuilderConformance:
    """Subclass it, say what recipes of your language look like, and pytest runs it. It needs anyio's pytest plugin.

    The image "base" is there, and the context has the file "a". No other image is.
    """

    pytestmark = pytest.mark.anyio

    recipe: str
    """The name of a recipe."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    def make_builder(self) -> Builder:
        """A builder that is open."""
        raise NotImplementedError

    def one_stage(self) -> str:
        """On the image "base": a command, and the file "a" copied."""
        raise NotImplementedError

    def stages(self) -> str:
        """A stage "tools" on "base" with a command; a stage "unused" on the image "nowhere"; and the one that is built
        without a target, on "base", with a command, and files copied from "tools"."""
        raise NotImplementedError

    def circle(self) -> str:
        """Stages that need each other."""
        raise NotImplementedError

    def unknown_image(self) -> str:
        """On the image "nowhere"."""
        raise NotImplementedError

    def mistakes(self) -> Sequence[str]:
        """Recipes that are wrong in themselves, each in another way."""
        raise NotImplementedError

    # --- what the tests use ---

    @pytest.fixture
    def services(self) -> MemoryServices:
        return MemoryServices(images={"base": BASE}, files={"": {"a": b"a"}})

    async def plan(self, services: MemoryServices, text: str, **wanted: Any) -> Plan:
        services.files[""][self.recipe] = text.encode()
        return await self.make_builder().plan(BuildRequest(recipe=self.recipe, **wanted), services)

    async def refusal(self, services: MemoryServices, text: str, **wanted: Any) -> HooperError:
        """The error that a recipe ends with."""
        with pytest.raises(HooperError) as caught:
            await self.plan(services, text, **wanted)
        return caught.value

    # --- the graph ---

    async def test_it_begins_with_the_image(self, services: MemoryServices) -> None:
        plan = await self.plan(services, self.one_stage())
        assert plan.base is not None and plan.base.reference == "base"
        assert plan.base in nodes(plan)
        assert services.resolved[0][0] == "base"
        assert plan.architecture == services.architecture

    async def test_the_command_is_on_the_way_to_the_result(self, services: MemoryServices) -> None:
        plan = await self.plan(services, self.one_stage())
        assert len(of_kind(plan, Run)) == 1 and isinstance(plan.result, Step)

    async def test_every_node_says_what_it_is(self, services: MemoryServices) -> None:
        for text in (self.one_stage(), self.stages()):
            assert all(node.name for node in nodes(await self.plan(services, text)))

    async def test_every_step_says_where_it_is_written(self, services: MemoryServices) -> None:
        text = self.stages()
        for step in of_kind(await self.plan(services, text), Step):
            assert step.origin is not None and step.origin.file == self.recipe
            assert 1 <= step.origin.first <= step.origin.last <= len(text.splitlines())

    async def test_inputs_name_all_that_a_node_needs(self, services: MemoryServices) -> None:
        for node in nodes(await self.plan(services, self.stages())):
            assert set(mentioned(node)) <= set(node.inputs()), node.name

    async def test_the_same_input_gives_the_same_plan(self, services: MemoryServices) -> None:
        for text in (self.one_stage(), self.stages()):
            first = await self.plan(services, text)
            assert described(await self.plan(services, text)) == described(first)

    async def test_plans_side_by_side_do_not_mix(self, services: MemoryServices) -> None:
        builder, found = self.make_builder(), {}
        services.files[""][self.recipe] = self.stages().encode()

        async def plan(target: str) -> None:
            request = BuildRequest(recipe=self.recipe, target=target, labels={"is": target})
            found[target] = await builder.plan(request, services)

        async with anyio.create_task_group() as tasks:
            for target in ("tools", ""):
                tasks.start_soon(plan, target)
        for target, made in found.items():
            assert (made.config.labels or {})["is"] == target
        assert described(found["tools"]) == described(
            await self.plan(services, self.stages(), target="tools", labels={"is": "tools"})
        )

    # --- the steps for a person, and the history ---

    async def test_steps_belong_to_stages_that_are_needed(self, services: MemoryServices) -> None:
        plan = await self.plan(services, self.stages())
        told = {step.node for step in plan.steps if step.node is not None}
        assert all(step.shown and step.stage for step in plan.steps)
        assert told <= set(nodes(plan)), "a step of a stage that nothing needs is told"
        assert plan.result in told and set(of_kind(plan, Run)) <= told

    async def test_the_history_is_of_what_leads_to_the_result(self, services: MemoryServices) -> None:
        plan = await self.plan(services, self.stages())
        assert plan.stages and "tools" not in plan.stages
        below, node = {plan.result}, plan.result
        while isinstance(node, Step):
            node = node.base
            below.add(node)
        made = [step for step in plan.steps if step.stage in plan.stages and step.node is not None]
        assert made and {step.node for step in made} <= below
        assert any(step.created_by for step in made)

    # --- what the request says ---

    async def test_labels_are_in_the_configuration(self, services: MemoryServices) -> None:
        plan = await self.plan(services, self.one_stage(), labels={"of-request": "2"})
        assert (plan.config.labels or {}).items() >= {"of-base": "1", "of-request": "2"}.items()

    async def test_the_request_stays_as_it_is(self, services: MemoryServices) -> None:
        services.files[""][self.recipe] = self.one_stage().encode()
        request = BuildRequest(recipe=self.recipe, labels={"a": "b"}, build_args={"X": "1"})
        before = msgspec.json.encode(request)
        await self.make_builder().plan(request, services)
        assert msgspec.json.encode(request) == before
        assert services.images == {"base": BASE} and BASE.labels == {"of-base": "1"}

    async def test_a_target_is_built_alone(self, services: MemoryServices) -> None:
        whole = await self.plan(services, self.stages())
        tools = await self.plan(services, self.stages(), target="tools")
        assert len(of_kind(tools, Run)) == 1 < len(of_kind(whole, Run))
        assert "tools" in tools.stages

    async def test_a_target_that_is_not_there(self, services: MemoryServices) -> None:
        error = await self.refusal(services, self.stages(), target="no-such-stage")
        assert isinstance(error, InvalidArgument | NotFound) and "no-such-stage" in str(error)

    async def test_without_the_cache(self, services: MemoryServices) -> None:
        text = self.stages()
        assert not any(step.fresh for step in of_kind(await self.plan(services, text), Step))
        plan = await self.plan(services, text, no_cache=True)
        assert all(step.fresh for step in of_kind(plan, Run))

    async def test_one_stage_without_the_cache(self, services: MemoryServices) -> None:
        plan = await self.plan(services, self.stages(), no_cache_stages=["tools"])
        stage = {step.node: step.stage for step in plan.steps}
        for run in of_kind(plan, Run):
            assert run.fresh == (stage[run] == "tools")

    async def test_the_platform_and_the_pull_are_asked_for(self, services: MemoryServices) -> None:
        await self.plan(services, self.one_stage(), platform="linux/arm64", pull=True)
        assert services.resolved and all(each == ("base", "linux/arm64", True) for each in services.resolved)

    # --- mistakes ---

    async def test_an_unused_stage_costs_nothing(self, services: MemoryServices) -> None:
        await self.plan(services, self.stages())
        assert all(reference == "base" for reference, _, _ in services.resolved)

    async def test_an_image_that_is_nowhere(self, services: MemoryServices) -> None:
        assert "nowhere" in str(await self.refusal(services, self.unknown_image()))

    async def test_a_recipe_that_is_not_there(self, services: MemoryServices) -> None:
        with pytest.raises((InvalidArgument, NotFound), match=self.recipe):
            await self.make_builder().plan(BuildRequest(recipe=self.recipe), services)

    async def test_a_circle(self, services: MemoryServices) -> None:
        error = await self.refusal(services, self.circle())
        assert isinstance(error, InvalidArgument) and self.recipe in str(error)

    async def test_mistakes_name_the_recipe(self, services: MemoryServices) -> None:
        for text in (*self.mistakes(), "\0\x01", "é" * 100):
            error = await self.refusal(services, text)
            assert type(error) is InvalidArgument and error.what.startswith(self.recipe), (text, str(error))

    async def test_a_recipe_that_is_no_text(self, services: MemoryServices) -> None:
        services.files[""][self.recipe] = b"\xff\xfe\x00" * 100
        with pytest.raises(InvalidArgument, match=self.recipe):
            await self.make_builder().plan(BuildRequest(recipe=self.recipe), services)

    async def test_a_check_says_what_is_doubtful(self, services: MemoryServices) -> None:
        services.files[""][self.recipe] = self.one_stage().encode()
        warnings = await self.make_builder().check(BuildRequest(recipe=self.recipe), services)
        assert all(isinstance(each, BuildWarning) and each.rule and each.message for each in warnings)
        assert not any(pull for _, _, pull in services.resolved)
        for text in self.mistakes():
            services.files[""][self.recipe] = text.encode()
            with pytest.raises(InvalidArgument, match=self.recipe):
                await self.make_builder().check(BuildRequest(recipe=self.recipe), services)
