"""The image that a solved build makes: its history and its times."""

from __future__ import annotations

import msgspec
import pytest

from hooper.api.build_graph import ImageSource, MakeDirectory, Run, Scratch
from hooper.api.builder import HistoryStep, Plan
from hooper.api.model import History, Image, ImageConfig, RootFS
from hooper.engine.build_image import MISSING, Made, image_of

BASE = Image(
    architecture="amd64",
    os="linux",
    rootfs=RootFS(["d1", "d2"]),
    history=[
        History(created="2020-01-01T00:00:00Z", created_by="ADD"),
        History(created="2020-01-02T00:00:00Z", created_by="ENV", empty_layer=True),
        History(created="2020-01-03T00:00:00Z", created_by="RUN base"),
    ],
    created="2020-01-03T00:00:00Z",
)


class Recipe:
    """Steps one on another; `results` is what the solver has of them."""

    def __init__(self, base=BASE):
        self.base = base
        self.source = ImageSource(reference="base", image_id="id", chain="c") if base else None
        self.top = self.source or Scratch()
        self.diff_ids = tuple(base.rootfs.diff_ids) if base else ()
        self.results = {self.top: Made("c", self.diff_ids, "", False)}
        self.steps = [HistoryStep(shown="FROM base", stage="0")]

    def layer(self, name, created):
        self.top = Run(base=self.top, args=("sh", "-c", name), name=name)
        self.diff_ids += (f"d-{name}",)
        self.results[self.top] = Made(f"c-{name}", self.diff_ids, created, True)
        return self

    def no_layer(self, name):
        below = self.results[self.top]
        self.top = MakeDirectory(base=self.top, path=name, name=name)
        self.results[self.top] = msgspec.structs.replace(below, added=False)
        return self

    def step(self, text, created="", stage="0"):
        """RUN makes a layer, WORKDIR finds the directory there, all else is configuration."""
        node = None
        if text.startswith("RUN"):
            node = self.layer(text, created).top
        elif text.startswith("WORKDIR"):
            node = self.no_layer(text).top
        self.steps.append(HistoryStep(shown=text, stage=stage, created_by=text, node=node))
        return self

    def image(self, epoch=None, stages=("0",)):
        plan = Plan(
            result=self.top, config=ImageConfig(cmd=["sh"]), steps=self.steps, stages=stages, base=self.source,
            architecture="arm64", variant="v8", author="me",
        )  # fmt: skip
        return image_of(plan, self.results, self.base, epoch=epoch)


def rows(image):
    return [(step.created_by, step.created, step.empty_layer) for step in image.history]


def test_configuration_layers_and_platform_are_the_plan_s():
    image = Recipe().step("RUN a", "2024-01-01T00:00:00Z").image()
    assert (image.architecture, image.variant, image.os, image.author) == ("arm64", "v8", "linux", "me")
    assert image.config.cmd == ["sh"] and image.rootfs.diff_ids == ["d1", "d2", "d-RUN a"]
    assert image.history[:3] == BASE.history and image.history[3].author == "me"


def test_a_step_without_a_layer_has_the_time_of_the_layer_before_or_of_the_first_new_one():
    first, second = "2024-01-01T00:00:00.000000001Z", "2024-01-02T00:00:00Z"
    recipe = Recipe().step("ENV A=b").step("RUN a", first).step("WORKDIR /").step("RUN b", second).step("CMD x")
    assert rows(recipe.image())[3:] == [
        ("ENV A=b", first, True), ("RUN a", first, False), ("WORKDIR /", first, True), ("RUN b", second, False),
        ("CMD x", second, True),
    ]  # fmt: skip
    assert recipe.image().created == second


def test_without_a_new_layer_all_times_are_the_base_s():
    assert rows(Recipe().step("ENV A=b").step("LABEL c=d").image())[3:] == [
        ("ENV A=b", BASE.created, True), ("LABEL c=d", BASE.created, True),
    ]  # fmt: skip
    assert Recipe().step("ENV A=b").image().created == Recipe().image().created == BASE.created


def test_the_same_results_make_the_same_bytes():
    def encoded():
        return msgspec.json.encode(Recipe().step("RUN a", "2024-01-01T00:00:00Z").step("CMD x").image())

    assert encoded() == encoded()


def test_from_scratch_and_nothing_else_there_is_no_time():
    image = Recipe(None).step("CMD x").image()
    assert image.created == "" and image.rootfs.diff_ids == [] and rows(image) == [("CMD x", "", True)]
    assert Recipe(None).image().history == []


def test_only_the_stages_of_the_history_are_in_it_and_what_leaves_no_trace_is_not():
    recipe = Recipe().step("RUN a", "2024-01-01T00:00:00Z")
    recipe.steps.append(HistoryStep(shown="RUN other", stage="other", created_by="RUN other"))
    recipe.steps.append(HistoryStep(shown="FROM 0", stage="last"))
    recipe.step("CMD x", stage="last")
    assert [row[0] for row in rows(recipe.image(stages=("0", "last")))[3:]] == ["RUN a", "CMD x"]


def test_a_step_of_several_layers_and_one_that_nobody_claims_have_an_entry_each():
    recipe = Recipe().layer("copy one", "2024-01-01T00:00:00Z").step("RUN a", "2024-01-02T00:00:00Z")
    recipe.layer("left over", "2024-01-03T00:00:00Z")
    assert rows(recipe.image())[3:] == [
        ("RUN a", "2024-01-02T00:00:00Z", False), ("RUN a", "2024-01-02T00:00:00Z", False),
        ("left over", "2024-01-03T00:00:00Z", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], [False, False]),
        ([History(created_by="a")], [False, False]),
        ([History(created_by="a"), History(created_by="b"), History(created_by="c")], [True, False, False]),
        ([History(created_by="e", empty_layer=True)] * 2, [True, True, False, False]),
    ],
)
def test_a_base_with_a_broken_history_is_mended(history, expected):
    base = msgspec.structs.replace(BASE, history=history)
    image = Recipe(base).step("RUN a", "2024-01-01T00:00:00Z").image()
    assert [step.empty_layer for step in image.history] == [*expected, False]
    assert sum(not step.empty_layer for step in image.history) == len(image.rootfs.diff_ids)
    added = image.history[len(history) : len(expected)]
    assert all(step.comment == MISSING and step.created == BASE.created for step in added)


def test_an_epoch_is_the_latest_time_there_is():
    epoch, shown = 1577923200, "2020-01-02T00:00:00.000000000Z"
    recipe = Recipe().step("RUN a", "2024-01-01T00:00:00Z").step("CMD x")
    assert [row[1] for row in rows(recipe.image(epoch))] == [
        "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", shown, shown, shown,
    ]  # fmt: skip
    assert recipe.image(epoch).created == shown
    assert Recipe(None).step("CMD x").image(epoch).created == shown


@pytest.mark.parametrize("created", ["2020-01-01T23:00:00-08:00", "yesterday", ""])
def test_times_in_other_zones_and_what_is_no_time_are_understood(created):
    base = msgspec.structs.replace(BASE, created=created, history=[History(created=created)] * 2)
    assert Recipe(base).image(1577923200).created == "2020-01-02T00:00:00.000000000Z"
    assert Recipe(base).image(1577923200 + 86400).created[:10] in ("2020-01-01", "2020-01-03")
