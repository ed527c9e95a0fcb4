"""--cache-from an image that says nothing of its steps: when its layers are those of a command, and when not."""

from __future__ import annotations

import msgspec
import pytest

from hooper.api.build_graph import CacheMount, Copy, CopySource, ImageSource, LocalSource, Run
from hooper.api.builder import HistoryStep, Plan
from hooper.api.model import History, Image, ImageConfig, RootFS
from hooper.api.registry import Descriptor
from hooper.engine.build_cache_plain import lineage, taken
from hooper.engine.build_image import Made
from hooper.engine.layers import chain_ids

BASE = Image(architecture="amd64", os="linux", rootfs=RootFS(["d0"]), history=[History(created_by="base")])
IMAGE = Image(
    architecture="amd64",
    os="linux",
    rootfs=RootFS(["d0", "d1", "d2"]),
    history=[
        *BASE.history,
        History(created_by="COPY . /"),
        History(created_by="ENV A=b", empty_layer=True),
        History(created_by="RUN make", created="2024-01-01T00:00:00Z"),
        History(created_by="CMD x", empty_layer=True),
    ],
)
TEXTS = ("base", "COPY . /", "ENV A=b", "RUN make")
BLOBS = [Descriptor("m", digest, 1) for digest in ("b0", "b1", "b2")]


def made(*diff_ids):
    return Made(chain_ids(diff_ids)[-1], diff_ids, "", True)


def test_a_command_on_the_same_layers_after_the_same_steps_is_found():
    entry = taken(IMAGE, BLOBS, TEXTS, made("d0", "d1"))
    assert entry is not None
    assert entry.made == Made(chain_ids(["d0", "d1", "d2"])[-1], ("d0", "d1", "d2"), "2024-01-01T00:00:00Z", True)
    assert [blob.digest for blob in entry.blobs] == ["b0", "b1", "b2"]


@pytest.mark.parametrize(
    ("texts", "base"),
    [
        (TEXTS, made("d0", "other")),
        (TEXTS, made("d0")),
        (TEXTS, made("d0", "d1", "d2")),
        ((*TEXTS[:2], "ENV A=c", TEXTS[3]), made("d0", "d1")),
        ((*TEXTS[:3], "RUN make all"), made("d0", "d1")),
        (TEXTS[:3], made("d0", "d1")),
        ((*TEXTS, "CMD x"), made("d0", "d1")),
        ((*TEXTS, "CMD x", "RUN more"), made("d0", "d1", "d2")),
        ((), made("d0")),
    ],
)
def test_anything_else_is_not(texts, base):
    assert taken(IMAGE, BLOBS, texts, base) is None


def test_an_image_whose_history_is_broken_serves_for_nothing():
    broken = msgspec.structs.replace(IMAGE, history=[History(created_by=text) for text in TEXTS])
    assert taken(broken, BLOBS, TEXTS, made("d0", "d1")) is None


def test_how_the_commands_of_a_plan_have_come_about():
    source = ImageSource(reference="base", image_id="id", chain="c")
    copy = Copy(base=source, sources=(CopySource(node=LocalSource(), paths=(".",)),), destination="/")
    run = Run(base=copy, args=("make",))
    mounted = Run(base=run, args=("make",), mounts=(CacheMount(target="/c", id="c"),))
    last = Run(base=mounted, args=("last",))
    elsewhere = Run(base=source, args=("other",))
    steps = [
        HistoryStep(shown="FROM base", stage="0"),
        HistoryStep(shown="", stage="other", created_by="RUN other", node=elsewhere),
        HistoryStep(shown="", stage="0", created_by="COPY . /", node=copy),
        HistoryStep(shown="", stage="0", created_by="ENV A=b"),
        HistoryStep(shown="", stage="0", created_by="RUN make", node=run),
        HistoryStep(shown="", stage="0", created_by="RUN make", node=mounted),
        HistoryStep(shown="", stage="0", created_by="RUN last", node=last),
    ]
    plan = Plan(result=last, config=ImageConfig(), steps=steps, stages=["0"], base=source)
    assert lineage(plan, BASE) == {run: TEXTS, last: (*TEXTS, "RUN make", "RUN last")}
    assert lineage(plan, None)[run] == TEXTS[1:]
