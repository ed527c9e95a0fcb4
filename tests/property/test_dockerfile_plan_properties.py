"""Plans of recipes that are put together at random: a plan that holds together, or one clear error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from build_fakes import Bench, history, nodes
from hooper.api.build_graph import Step
from hooper.api.builder import NamedContext, Plan
from hooper.api.errors import HooperError
from hooper.api.model import ImageConfig

_WORDS = st.sampled_from(
    [
        "a", "b", "../x", "/", "$a", "${b:-c}", "${b:?x}", "x=y", "a=$a", "1-3", "80/udp", "*", "a[", "a/./b", "'", '"',
        "\\", "NONE", "CMD", "AS", "<<E", '["a","b"]', "http://h/x", "https://h/x.git#a:b", "git@h:x?ref=", "--from=a",
        "--from=0", "--from=base", "--from=z", "--chmod=9", "--chmod=u+x", "--chown=a:b", "--parents", "--link",
        "--exclude=**", "--mount=target=/x", "--mount=type=cache,target=$a", "--mount=type=secret,id=x,env",
        "--network=host", "--security=insecure", "--platform=$a",
    ]
)  # fmt: skip
_KEYWORDS = st.sampled_from(
    [
        "FROM", "RUN", "CMD", "LABEL", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT", "VOLUME", "USER", "WORKDIR", "ARG",
        "ONBUILD", "STOPSIGNAL", "HEALTHCHECK", "SHELL",
    ]
)  # fmt: skip
_BASES = st.sampled_from(["base", "a", "b", "scratch", "tree", "on"])
_FROM = st.builds("FROM {}{}".format, _BASES, st.sampled_from(["", " AS b"]))
_ODD = st.builds(lambda keyword, words: " ".join([keyword, *words]), _KEYWORDS, st.lists(_WORDS, max_size=3))
_RECIPES = st.lists(st.one_of(_FROM, _ODD, _ODD, _ODD), max_size=8)
_TRIGGERS = st.lists(st.sampled_from(["RUN x", "COPY --from=a / /", "ENV a=b", "COPY <<E /x\nx\nE", "RNU"]), max_size=2)


def planned(text: str, triggers: list[str]) -> tuple[Plan | None, str]:
    """The plan, or the error that there is none for."""
    bench = Bench()
    bench.services.images["on"] = ImageConfig(on_build=triggers)
    bench.services.files["tree"] = {}
    try:
        return bench.plan(text, contexts={"tree": NamedContext("local")}), ""
    except HooperError as error:
        return None, str(error)


@given(_RECIPES, _TRIGGERS)
def test_a_plan_holds_together(lines: list[str], triggers: list[str]) -> None:
    text = "\n".join(["FROM base AS a", *(f"{line}\nx $a\nE" if "<<E" in line else line for line in lines)])
    plan, error = planned(text, triggers)
    if plan is None:
        assert error.startswith("Dockerfile:")
        return
    needed = nodes(plan)
    assert plan.base is None or plan.base in needed
    assert all(node.name and node.origin for node in needed if isinstance(node, Step))
    assert {step.stage for step in plan.steps} >= set(plan.stages)
    own = [step.node for step in plan.steps if step.stage in plan.stages and step.node is not None]
    assert own[-1] is plan.result
    assert all(node in needed for node in own)
    again, _ = planned(text, triggers)
    assert again is not None
    assert history(again) == history(plan)
