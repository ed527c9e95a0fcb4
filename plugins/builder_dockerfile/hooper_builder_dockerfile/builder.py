"""The driver "dockerfile"."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hooper.api.builder import Builder, BuildRequest, BuildServices, Progress
from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.model import Image, RootFS
from hooper_builder_dockerfile.arguments import Arguments, platform_arguments
from hooper_builder_dockerfile.context import Context
from hooper_builder_dockerfile.executor import Executor
from hooper_builder_dockerfile.parser import parse
from hooper_builder_dockerfile.plan import make_plan
from hooper_builder_dockerfile.scope import Scope
from hooper_builder_dockerfile.sources import Sources


class DockerfileBuilder(Builder):
    async def build(self, request: BuildRequest, services: BuildServices, progress: Progress) -> str:
        context = Context(request.context, services)
        file = request.dockerfile or "Dockerfile"
        recipe = parse(_text(context, file), file)
        arguments = Arguments(request.build_args, platform_arguments(request.platform, self.context.host.architecture))
        plan = make_plan(recipe, arguments, request.target, file)
        context.read_ignore_file(file)
        sources = Sources(services, context, self._temporary())
        try:
            executor = Executor(request, services, progress, arguments=arguments, sources=sources, escape=recipe.escape)
            scope = await executor.carry_out(plan)
        finally:
            sources.close()
        if unused := arguments.unused():
            await progress.stream(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        if not scope.state.image_id and not scope.state.history:
            raise InvalidArgument(file, "no image was generated", "Add an instruction after FROM scratch.")
        image_id = scope.state.image_id or await services.finish(scope.state, _image(scope))
        await progress.aux({"ID": image_id})
        await progress.stream(f"Successfully built {image_id.removeprefix('sha256:')[:12]}\n")
        return image_id

    def _temporary(self) -> Path:
        self.context.exec_dir.mkdir(parents=True, exist_ok=True)
        return self.context.exec_dir


def _text(context: Context, file: str) -> str:
    if context.directory is None:
        raise InvalidArgument(file, "there is no build context to read it from", "Send a context that holds it.")
    text = context.read(file)
    if text is None and file == "Dockerfile":
        text = context.read("dockerfile")
    if text is None:
        raise NotFound(
            f"Cannot locate specified Dockerfile: {file}", remedy="Name it with -f, relative to the context."
        )
    return text


def _image(scope: Scope) -> Image | None:
    """Only an image with an author says more than its state does."""
    state = scope.state
    if not scope.author:
        return None
    return Image(
        architecture=state.architecture,
        os="linux",
        variant=state.variant,
        config=msgspec.structs.replace(state.config),
        rootfs=RootFS(list(state.diff_ids)),
        history=list(state.history),
        created=state.created,
        author=scope.author,
    )
