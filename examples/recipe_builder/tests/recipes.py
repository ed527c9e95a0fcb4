"""What the conformance suite has to know of the language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from hooper_builder_recipe.builder import RecipeBuilder

from hooper.api.builder import Builder
from hooper.testing.builders import BuilderConformance


class RecipeConformance(BuilderConformance):
    recipe = "image.toml"

    def make_builder(self) -> Builder:
        # This builder asks its context for nothing.
        return RecipeBuilder(cast(Any, None))

    def one_stage(self) -> str:
        return 'from = "base"\n[[step]]\nrun = "true"\n[[step]]\ncopy = ["a"]\n'

    def stages(self) -> str:
        return (
            'from = "base"\n[[step]]\nrun = "true"\n[[step]]\ncopy = ["t"]\nfrom = "tools"\n'
            '[stage.tools]\nfrom = "base"\n[[stage.tools.step]]\nrun = "make tools"\n'
            '[stage.unused]\nfrom = "nowhere"\n[[stage.unused.step]]\nrun = "true"\n'
        )

    def circle(self) -> str:
        return (
            'from = "one"\n[stage.one]\nfrom = "base"\n[[stage.one.step]]\ncopy = ["a"]\nfrom = "two"\n'
            '[stage.two]\nfrom = "one"\n'
        )

    def unknown_image(self) -> str:
        return 'from = "nowhere"\n'

    def mistakes(self) -> Sequence[str]:
        return (
            "",
            "from = \n",
            'from = "base"\nform = 1\n',
            'from = "base"\n[[step]]\n',
            'from = "base"\n[[step]]\nrun = "true"\ncopy = ["a"]\n',
            'from = "base"\n[[step]]\ncopy = ["a"]\nfrom = "nobody"\n',
            'from = "base"\n[stage.main]\nfrom = "base"\n',
        )
