"""A build's events in the words of Docker's classic builder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hooper.api.build_events import (
    BuildEvent,
    Exported,
    Noted,
    Planned,
    PlannedStep,
    Pulling,
    StepDone,
    StepFailed,
    StepOutput,
    StepStarted,
    StepStatus,
    Warned,
)
from hooper.api.build_graph import Origin
from hooper_api_docker.build_progress import EventWords, QuietWords
from hooper_api_docker.build_words import ClassicWords

ID = "sha256:" + "1" * 64


def planned(*steps: str | tuple[str, str]) -> Planned:
    """Steps, or (stage, step)."""
    pairs = [step if isinstance(step, tuple) else ("0", step) for step in steps]
    return Planned(
        steps=tuple(PlannedStep(shown=shown, stage=stage, configures="CMD" in shown) for stage, shown in pairs)
    )


def out(step: int, text: str | bytes, stream: int = 1) -> StepOutput:
    return StepOutput(step=step, stream=stream, data=text if isinstance(text, bytes) else text.encode(), at=0)


def start(step: int) -> StepStarted:
    return StepStarted(step=step, at=0)


def done(step: int, result: str = "", **more: Any) -> StepDone:
    return StepDone(step=step, at=0, result=result, **more)


def words(**options: Any) -> ClassicWords:
    return ClassicWords(name=lambda: "cafe", **options)


def told(events: Sequence[BuildEvent], which: ClassicWords | None = None) -> str:
    which = which or words()
    return text([message for event in events for message in which.feed(event)])


def text(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("stream", "") for message in messages)


def test_a_build_reads_as_dockers() -> None:
    shown = words()
    events = [
        planned("FROM busybox", "RUN make", "RUN true", "CMD x", "COPY a b"),
        start(0), done(0, "sha256:" + "a" * 64),
        start(1), out(1, "one\n"), out(1, "two\n", 2), done(1, "b" * 64),
        start(2), done(2, "c" * 64, cached=True),
        done(3, configured=True, cached=True),
        start(4), done(4, "d" * 64),
    ]  # fmt: skip
    assert told(events, shown) == (
        "Step 1/5 : FROM busybox\n ---> aaaaaaaaaaaa\n"
        "Step 2/5 : RUN make\n ---> Running in cafe\none\ntwo\nRemoving intermediate container cafe\n"
        " ---> bbbbbbbbbbbb\n"
        "Step 3/5 : RUN true\n ---> Using cache\n ---> cccccccccccc\n"
        "Step 4/5 : CMD x\n ---> Using cache\n ---> cccccccccccc\n"
        "Step 5/5 : COPY a b\n ---> dddddddddddd\n"
    )
    assert shown.end(ID, ["a:latest", "b:1"]) == [
        {"aux": {"ID": ID}},
        {"stream": "Successfully built 111111111111\n"},
        {"stream": "Successfully tagged a:latest\n"},
        {"stream": "Successfully tagged b:1\n"},
    ]
    assert shown.feed(Noted(text="late")) == [] and shown.end(ID, []) == []


def test_the_front_step_is_live_and_the_others_wait_for_it() -> None:
    shown = words(removes=False)
    two_stages = planned(("a", "RUN slow"), ("b", "RUN quick"), ("b", "RUN last"))
    assert told([two_stages, start(0), start(1), out(1, "quick\n"), done(1, "b" * 12), start(2)], shown) == (
        "Step 1/3 : RUN slow\n"
    )
    assert told([out(0, "live\n")], shown) == " ---> Running in cafe\nlive\n"
    assert told([out(2, "later\n")], shown) == ""
    assert told([done(0, "a" * 12)], shown) == (
        " ---> aaaaaaaaaaaa\nStep 2/3 : RUN quick\n ---> Running in cafe\nquick\n ---> bbbbbbbbbbbb\n"
        "Step 3/3 : RUN last\n ---> Running in cafe\nlater\n"
    )
    assert told([out(2, "end")], shown) == "end"
    assert told([done(2)], shown) == "\n ---> bbbbbbbbbbbb\n"


def test_what_waits_is_bounded_and_says_so() -> None:
    shown = words(kept=10, kept_of_all=16)
    shown.feed(planned(("a", "RUN x"), ("b", "RUN y"), ("c", "RUN z")))
    for event in (start(0), start(1), start(2), out(1, "0123456789"), out(1, "abc\n"), out(2, "ABCDEFGHI\n")):
        shown.feed(event)
    found = told([done(0), done(1), done(2)], shown)
    assert "[8 characters of output left out here]\n9abc\n" in found or "bc\n" in found
    kept = [line for line in found.splitlines() if "left out" not in line and line[:4] not in ("Step", " ---", "Remo")]
    assert sum(len(line) + 1 for line in kept) <= 16 and kept[-1].endswith("GHI")
    assert "characters of output left out here" in found


def test_a_failure_comes_last_and_what_stands_behind_it_not_at_all() -> None:
    shown = words()
    steps = planned(("a", "RUN slow"), ("b", "RUN false"), ("b", "RUN never"), ("c", "RUN other"))
    told([steps, start(0), out(0, "slow\n"), start(1), out(1, "oh no\n"), start(3), out(3, "unseen\n")], shown)
    failed = StepFailed(step=1, at=0, error="x", exit_code=1, output="oh no\n")
    assert told([failed, out(0, "more\n"), done(0)], shown) == "Step 2/4 : RUN false\n ---> Running in cafe\noh no\n"
    assert shown.end(ID, []) == []


def test_characters_come_whole() -> None:
    assert told([planned("COPY x"), out(0, "é".encode()[:1]), out(0, "é".encode()[1:] + b"\xff\n")]) == (
        "Step 1/1 : COPY x\né�\n"
    )
    assert told([planned("COPY x"), start(0), out(0, b"\xc3"), done(0)]).endswith("�\n")
    # Of each of the two streams.
    assert "é" in told([planned("COPY x"), out(0, b"\xc3"), out(0, b"!", 2), out(0, b"\xa9")])


def test_downloads_are_shown_of_the_front_step() -> None:
    shown = words()
    shown.feed(planned(("a", "ADD u"), ("b", "ADD v")))
    front = shown.feed(StepStatus(step=0, text="Downloading", current=1, total=2))
    assert front[-1] == {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}}
    assert shown.feed(StepStatus(step=1, text="Downloading", current=1)) == []
    assert shown.feed(StepStatus(step=1, text="Downloading", current=9)) == []
    assert shown.feed(done(0))[1:] == [
        {"stream": "Step 2/2 : ADD v\n"},
        {"status": "Downloading", "progressDetail": {"current": 9}},
    ]


def test_remarks_come_before_the_steps_or_after_them() -> None:
    shown = words()
    pull = {"status": "Pulling", "id": "x"}
    assert shown.feed(Pulling(message=pull)) == [pull]
    steps = planned("FROM a", "RUN b")
    shown.feed(steps)
    warned = Warned(rule="StageNameCasing", message="small", origin=Origin("Dockerfile", 3, 3))
    assert told([warned], shown) == "[Warning] StageNameCasing: small (Dockerfile:3)\n"
    assert told([start(0), Noted(text="[Warning] One or more build-args [x] were not consumed"), done(0)], shown) == (
        "Step 1/2 : FROM a\n"
    )
    told([done(1), Exported(type="image", names=("n:1",)), Exported(type="tar")], shown)
    assert text(shown.end(ID, ["other:1"])) == (
        "[Warning] One or more build-args [x] were not consumed\n"
        "Successfully built 111111111111\nSuccessfully tagged n:1\nSuccessfully exported tar\n"
    )


def test_a_build_without_an_image_names_none() -> None:
    shown = words()
    shown.feed(Exported(type="local"))
    assert shown.end("", ["a:latest"]) == [{"stream": "Successfully exported local\n"}]
    assert EventWords().end("", []) == [] and EventWords().end(ID, []) == [{"aux": {"ID": ID}}]


def test_a_quiet_build_keeps_the_latest() -> None:
    quiet = QuietWords(words())
    assert quiet.feed(planned("RUN x")) == [] and quiet.feed(out(0, "a" * 3_000_000)) == []
    assert quiet.feed(out(0, "b" * 3_000_000)) == []
    assert [message["stream"][0] for message in quiet.kept] == ["b"]
    assert quiet.end(ID, ["a"]) == [{"stream": f"{ID}\n"}]
