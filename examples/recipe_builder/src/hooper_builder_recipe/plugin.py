"""The entry point: registers the builder, and which recipes are its."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_builders() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "recipe",
        "builds images from TOML recipes",
        factory="hooper_builder_recipe.builder:RecipeBuilder",
        capabilities=frozenset({"recipe:*.toml"}),
        # Never the builder that is taken when nobody names one.
        priority=-1,
    )
