"""The bundled builder, and the one in the examples, against the conformance suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from hooper.api.builder import Builder
from hooper.testing.builders import BuilderConformance
from hooper_builder_dockerfile.builder import DockerfileBuilder

EXAMPLE = Path(__file__).parents[2] / "examples" / "recipe_builder"
sys.path[:0] = [str(EXAMPLE / "src"), str(EXAMPLE / "tests")]
pytest.importorskip("hooper_builder_recipe.builder")

from recipes import RecipeConformance  # noqa: E402


class TestDockerfile(BuilderConformance):
    recipe = "Dockerfile"

    def make_builder(self) -> Builder:
        return DockerfileBuilder(cast(Any, None))

    def one_stage(self) -> str:
        return "FROM base\nRUN true\nCOPY a /a\n"

    def stages(self) -> str:
        return (
            "FROM base AS tools\nRUN make \\\n  tools\n"
            "FROM nowhere AS unused\nRUN true\n"
            "FROM base\nRUN true\nCOPY --from=tools /t /t\n"
        )

    def circle(self) -> str:
        return "FROM base AS one\nCOPY --from=two /a /a\nFROM base AS two\nCOPY --from=one /a /a\n"

    def unknown_image(self) -> str:
        return "FROM nowhere\n"

    def mistakes(self) -> Sequence[str]:
        return ("FROM base\nRNU true\n", "RUN true\n", "FROM base\nCOPY --chwon=1 a /a\n", "FROM base\nRUN\n", "")


class TestRecipe(RecipeConformance):
    """The example's own."""
