"""Plans of Dockerfiles, made with services in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import pytest

from hooper.api.builder import BuildRequest, BuildWarning, Plan
from hooper.api.errors import HooperError, InvalidArgument
from hooper.api.model import ImageConfig
from hooper.testing.builders import MemoryServices, nodes, of_kind
from hooper_builder_dockerfile.builder import DockerfileBuilder

__all__ = ["BASE", "Bench", "MemoryServices", "history", "nodes", "of_kind"]

BASE = ImageConfig(env=["PATH=/bin"], cmd=["sh"], working_dir="/w")


@dataclass
class Bench:
    """A builder with services in memory, of which the image "base" is always there."""

    services: MemoryServices = field(default_factory=lambda: MemoryServices(images={"base": BASE}))

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


def history(plan: Plan) -> list[str]:
    """What the image's history will say of the new steps."""
    return [step.created_by for step in plan.steps if step.stage in plan.stages and step.created_by]
