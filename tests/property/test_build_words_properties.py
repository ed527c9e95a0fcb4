"""However the steps of a build overlap, the classic words tell each of them once, in order."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hooper.api.build_events import (
    BuildEvent,
    Planned,
    PlannedStep,
    StepDone,
    StepFailed,
    StepOutput,
    StepStarted,
    StepStatus,
)
from hooper_api_docker.build_words import ClassicWords


@st.composite
def builds(
    draw: st.DrawFn, alphabet: str = "é€x\n", may_fail: bool = True
) -> tuple[list[BuildEvent], list[bytes], int | None]:
    """Events of side by side steps, what each step wrote up to the end, and the step that failed."""
    count = draw(st.integers(1, 6))
    kinds = [draw(st.sampled_from(["run", "copy", "configure"])) for _ in range(count)]
    shown = {"run": "RUN", "copy": "COPY", "configure": "CMD"}
    steps = tuple(
        PlannedStep(shown=f"{shown[kind]} {number}", stage=str(draw(st.integers(0, 2))), configures=kind == "configure")
        for number, kind in enumerate(kinds)
    )
    can_fail = [number for number in range(count) if kinds[number] != "configure" and may_fail]
    failing = draw(st.sampled_from([None, *can_fail]))
    queues = [_life(draw, alphabet, number, kinds[number], number == failing) for number in range(count)]
    events: list[BuildEvent] = [Planned(steps=steps)]
    written = [b""] * count
    while any(queues):
        number = draw(st.sampled_from([n for n, queue in enumerate(queues) if queue]))
        event = queues[number].pop(0)
        events.append(event)
        if isinstance(event, StepOutput):
            written[number] += event.data
        if isinstance(event, StepFailed):
            break
    return events, written, failing


def _life(draw: st.DrawFn, alphabet: str, number: int, kind: str, fails: bool) -> list[BuildEvent]:
    common: dict[str, Any] = {"step": number, "at": 0}
    if kind == "configure":
        return [StepDone(**common, configured=True, cached=draw(st.booleans()))]
    events: list[BuildEvent] = [StepStarted(**common)]
    for piece in draw(st.lists(st.text(alphabet=alphabet, min_size=1, max_size=5), max_size=4)):
        # Marked, so that it is known whose it is; cut anywhere, also within a character.
        data = f"<{number}:{piece}>".encode()
        cut = draw(st.integers(0, len(data)))
        events += [StepOutput(stream=1, data=part, **common) for part in (data[:cut], data[cut:]) if part]
        if draw(st.booleans()):
            events.append(StepStatus(text="Downloading", current=len(events), **common))
    if fails:
        return [*events, StepFailed(error="no", **common)]
    return [*events, StepDone(result="f" * 64, cached=len(events) == 1 and draw(st.booleans()), **common)]


def said(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("stream", "") for message in messages)


@given(builds())
def test_each_step_is_told_once_and_in_order(build: tuple[list[BuildEvent], list[bytes], int | None]) -> None:
    events, written, failing = build
    words = ClassicWords()
    told = [words.feed(event) for event in events]
    text = said([message for part in told for message in part])
    assert words.feed(events[-1]) == [] or failing is None
    end = words.end("sha256:" + "1" * 64, ["a:1"])
    assert words.feed(events[-1]) == [] and words.end("x", []) == []
    # One section a step, in the order of the recipe.
    sections = re.split(r"^Step (\d+)/\d+ : .*\n", text, flags=re.MULTILINE)
    numbers = [int(number) - 1 for number in sections[1::2]]
    bodies = dict(zip(numbers, sections[2::2], strict=True))
    assert numbers == sorted(set(numbers))
    if failing is None:
        assert numbers == list(range(len(written)))
        assert said(end).startswith("Successfully built 111111111111\n")
    else:
        assert numbers[-1] == failing and end == []
    for number, body in bodies.items():
        found = re.sub(r"^ ---> .*\n|^Removing intermediate .*\n", "", body, flags=re.MULTILINE)
        assert found.strip("\n") == written[number].decode(errors="replace").strip("\n")
        marks = {int(mark) for mark in re.findall(r"<(\d):", body)}
        assert marks <= {number}


@given(builds(alphabet="é€x", may_fail=False), st.integers(0, 30), st.integers(0, 60))
def test_what_is_left_out_is_counted(
    build: tuple[list[BuildEvent], list[bytes], int | None], kept: int, kept_of_all: int
) -> None:
    events, written, _ = build
    words = ClassicWords(kept=kept, kept_of_all=kept_of_all)
    text = "".join(said(words.feed(event)) for event in events)
    note = re.compile(r"\[(\d+) characters of output left out here\]\n")
    lost = sum(int(number) for number in note.findall(text))
    rest = re.sub(r"^(Step | ---> |Removing ).*\n", "", note.sub("", text), flags=re.MULTILINE)
    assert len(rest.replace("\n", "")) + lost == sum(len(one.decode()) for one in written)
