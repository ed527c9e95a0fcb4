"""The builder against hooper's conformance suite, and its language."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest
from hooper_builder_recipe.builder import RecipeBuilder
from recipes import RecipeConformance

from hooper.api.build_graph import CacheMount, Copy, LocalSource, MakeDirectory, Run
from hooper.api.builder import BuildRequest, NamedContext, Plan
from hooper.api.errors import InvalidArgument
from hooper.api.model import ImageConfig
from hooper.testing.builders import MemoryServices, of_kind

RECIPE = """
from = "base"
workdir = "/srv"
env = { LANG = "C.UTF-8", PATH = "/usr/bin" }
cmd = ["serve"]
user = "www"
labels = { of = "recipe" }

[[step]]
run = '''
make |
  install
'''
cache = ["/var/cache", "/root/.cache"]

[[step]]
copy = ["a", "b*"]
to = "in/"

[[step]]
copy = ["/out"]
from = "assets"

[stage.assets]
from = "tools"

[[stage.assets.step]]
run = "build"

[stage.tools]
from = "other"
"""


class TestConformance(RecipeConformance):
    """Of hooper.testing."""


def planned(text: str, *, files: dict[str, bytes] | None = None, **wanted: Any) -> tuple[Plan, MemoryServices]:
    images = {
        "base": ImageConfig(env=["PATH=/bin"], cmd=["sh"], working_dir="/w"),
        "other": ImageConfig(env=["A=1"], user="builder"),
    }
    services = MemoryServices(images=images, files={"": {"image.toml": text.encode(), **(files or {})}})
    request = services.requested(BuildRequest(recipe="image.toml", **wanted))
    return anyio.run(RecipeBuilder(cast(Any, None)).plan, request, services), services


def refused(text: str, **wanted: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        planned(text, **wanted)
    return str(caught.value)


def test_a_whole_recipe() -> None:
    plan, services = planned(RECIPE)
    assert services.resolved == [("base", "", False), ("other", "", False)]
    config = plan.config
    assert (config.cmd, config.user, config.working_dir) == (["serve"], "www", "/srv")
    assert (config.env, config.labels) == (["PATH=/usr/bin", "LANG=C.UTF-8"], {"of": "recipe"})
    assert [step.shown for step in plan.steps if step.stage == "main"] == [
        "from base", "workdir /srv", "run make | install", "copy a b*", "copy /out",
    ]  # fmt: skip
    assert plan.stages == ("main",)


def test_a_command() -> None:
    plan, _ = planned(RECIPE)
    run = next(run for run in of_kind(plan, Run) if "make" in run.args[2])
    assert (run.cwd, run.env, run.user) == ("/srv", ("PATH=/usr/bin", "LANG=C.UTF-8"), "")
    assert all(isinstance(mount, CacheMount) and mount.id == mount.target for mount in run.mounts)
    assert len(run.mounts) == 2 and isinstance(run.base, MakeDirectory)
    assert run.origin is not None and (run.origin.first, run.origin.last) == (9, 14)
    assert run.origin.text.startswith("[[step]]\nrun = '''")


def test_a_stage_on_another_one() -> None:
    plan, _ = planned(RECIPE)
    run = next(run for run in of_kind(plan, Run) if run.args[2] == "build")
    assert (run.env, run.user) == (("A=1",), "builder")
    assets, _ = planned(RECIPE, target="assets")
    assert assets.result is not run and assets.stages == ("tools", "assets")
    assert assets.config.labels is None and assets.config.user == "builder"


def test_copies() -> None:
    plan, _ = planned(RECIPE)
    files, out = of_kind(plan, Copy)
    assert (files.destination, files.sources[0].paths, files.keep_owner) == ("/srv/in/", ("a", "b*"), False)
    assert (out.destination, out.sources[0].shown, out.keep_owner) == ("/srv/./", "stage assets", True)


def test_a_context_with_a_name() -> None:
    text = 'from = "base"\n[[step]]\ncopy = ["a"]\nfrom = "site"\n'
    plan, _ = planned(text, contexts={"site": NamedContext("local")})
    (source,) = of_kind(plan, LocalSource)
    assert source.context == "site"
    assert '"site"' in refused(text)


def test_what_is_ignored() -> None:
    _, services = planned('from = "base"\n', files={".dockerignore": b"*.log\n!keep.log\n"})
    assert services.ignored == {"": (["*.log", "!keep.log", "image.toml"], ".dockerignore")}


def test_arguments_are_not_used_in_silence() -> None:
    plan, _ = planned('from = "base"\n', build_args={"VERSION": "1"})
    assert "VERSION" in plan.notes[0]


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ('from = "base"\n\n[[step]]\nto = "/x"\n', "image.toml:3", "`run` or `copy`"),
        ('from = "base"\n[[step]]\nrun = "a"\n[[step]]\nrun = "b"\nto = "x"\n', "image.toml:4", "go with `copy`"),
        ('from = "base"\n[[step]]\ncopy = ["a"]\ncache = ["/c"]\n', "image.toml:2", "goes with `run`"),
        ('from = "base"\n[[step]]\ncopy = ["a", "b"]\nto = "/x"\n', "image.toml:2", 'Write to = "/x/".'),
        ('from = "base"\nwrokdir = "/"\n', "image.toml", "wrokdir"),
        ('from = "base"\n[[step]]\nrun = 1\n', "image.toml", "$.step[0].run"),
        ('from = "base"\n]\n', "image.toml:2", "Invalid statement"),
        ('from = "base"\n[stage.x]\nfrom = "x"\n[[step]]\ncopy=["a"]\nfrom="x"\n', "image.toml:2", "needs itself"),
        ('from = "base"\n[[step]]\ncopy = ["a"]\nfrom = "y"\n', "image.toml:2", "There are: main."),
    ],
)
def test_mistakes(text: str, place: str, why: str) -> None:
    message = refused(text)
    assert message.startswith(f"{place}: ") and why in message


def test_a_target_that_is_not_there() -> None:
    assert "There are: assets, tools, main." in refused(RECIPE, target="asset")
