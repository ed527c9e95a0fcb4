"""How the events of a build are shown: as lines, on a terminal, as a timeline, and what is said at its end."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from hooper.api import build_events as events
from hooper.api.build_graph import Origin
from hooper.cli import terminal
from hooper.cli.build_check import check_lines
from hooper.cli.build_live import LiveView, elapsed, row
from hooper.cli.build_plain import PlainLines, failure_lines
from hooper.cli.build_steps import Build
from hooper.cli.build_trace import Trace
from hooper.cli.errors import BadFlag

S = 10**9
T = 1_700_000_000 * S
RUN = Origin("Dockerfile", 3, 4, "RUN make \\\n  all")


def planned(*steps: tuple[str, str], configures: Iterable[int] = ()) -> events.Planned:
    return events.Planned(
        steps=tuple(
            events.PlannedStep(
                shown=shown, stage=stage, origin=RUN if shown == "RUN make all" else None, configures=at in configures
            )
            for at, (stage, shown) in enumerate(steps)
        )
    )


def pull(status: str, layer: str = "", **detail: int) -> events.Pulling:
    message = {"status": status, **({"id": layer} if layer else {}), **({"progressDetail": detail} if detail else {})}
    return events.Pulling(message=message)


PLAN = planned(
    ("build", "FROM debian:12"), ("build", "ENV A=1"), ("build", "RUN make all"), ("1", "FROM scratch"),
    ("1", "COPY --from=build /x /"), configures=[1],
)  # fmt: skip
GOOD: list[events.BuildEvent] = [
    events.ContextReceived(files=3, size=4096, sent=1024, began=T, at=T + S // 2),
    pull("Pulling from library/debian", "12"),
    pull("Pulling fs layer", "abc"),
    pull("Downloading", "abc", current=5, total=10),
    pull("Pull complete", "abc"),
    pull("Status: Downloaded newer image for debian:12"),
    PLAN,
    events.StepStarted(step=0, at=T + S),
    events.StepDone(step=0, at=T + S, cached=True),
    events.StepStarted(step=3, at=T + S),
    events.StepDone(step=3, at=T + S),
    events.StepDone(step=1, at=T + S, configured=True),
    events.StepStarted(step=2, at=T + S),
    events.StepOutput(step=2, stream=1, data=b"cc -c a", at=T + 2 * S),
    events.StepOutput(step=2, stream=2, data=b"10%\r20%\rwarned\n", at=T + 2 * S),
    events.StepOutput(step=2, stream=1, data=b".c\nld", at=T + 3 * S),
    events.StepDone(step=2, at=T + 4 * S, result="sha256:r"),
    events.StepStarted(step=4, at=T + 4 * S),
    events.StepDone(step=4, at=T + 4 * S + S // 10),
    events.Exported(type="image", image_id="sha256:1", names=("docker.io/library/a:1",), at=T + 5 * S),
    events.Warned(rule="StageNameCasing", message="should be lowercase", origin=Origin("Dockerfile", 1, 1)),
    events.Noted(text="[Warning] One or more build-args were not consumed"),
]
BAD: list[events.BuildEvent] = [
    *GOOD[6:15],
    events.StepFailed(
        step=2, at=T + 4 * S, error="RUN make all: exit code 2\nmend it", exit_code=2, output="no\nrule\n"
    ),
]


def plain(happened: list[events.BuildEvent]) -> str:
    file = io.StringIO()
    with PlainLines(file) as shown:
        for event in happened:
            shown.show(event)
    shown.end()
    return file.getvalue()


def test_lines() -> None:
    assert (
        plain(GOOD)
        == """\
#1 [internal] load build context
#1 transferring context: 1.024kB sent of 4.096kB in 3 files
#1 DONE 0.5s

#2 [internal] pull library/debian:12
#2 abc: Pulling fs layer
#2 abc: Pull complete
#2 Status: Downloaded newer image for debian:12

#3 [build 1/2] FROM debian:12
#3 CACHED

#4 [stage-1 1/2] FROM scratch
#4 DONE 0.0s

#5 [build 2/2] RUN make all
#5 1.000 warned
#5 2.000 cc -c a.c
#5 3.000 ld
#5 DONE 3.0s

#6 [stage-1 2/2] COPY --from=build /x /
#6 DONE 0.1s

#7 exporting to image
#7 writing image sha256:1
#7 naming to docker.io/library/a:1
#7 DONE

1 warning found (`hooper build --check` shows more):
 - StageNameCasing: should be lowercase (Dockerfile:1)

[Warning] One or more build-args were not consumed
"""
    )


def test_lines_of_steps_side_by_side_tell_whose_they_are() -> None:
    happened: list[events.BuildEvent] = [
        planned(("a", "RUN one"), ("b", "RUN two")),
        events.StepStarted(step=0, at=T),
        events.StepStarted(step=1, at=T),
        events.StepOutput(step=0, stream=1, data=b"x\n", at=T),
    ]
    assert plain(happened) == "#1 [a 1/1] RUN one\n\n#2 [b 1/1] RUN two\n\n#1 [a 1/1] RUN one\n#1 0.000 x\n"


def test_a_stage_alone_has_no_name() -> None:
    assert plain([planned(("0", "FROM x")), events.StepStarted(step=0, at=T)]) == "#1 [1/1] FROM x\n"


def test_lines_of_a_failure() -> None:
    assert plain(BAD).splitlines()[-1] == "#3 ERROR: exit code: 2"
    build = Build()
    for event in BAD:
        build.feed(event)
    assert list(failure_lines(build)) == [
        "------", " > [build 2/2] RUN make all:", "no", "rule", "------",
        "Dockerfile:3", "-" * 20, "   3 | >>> RUN make \\", "   4 | >>>   all", "-" * 20,
    ]  # fmt: skip


def test_the_place_is_shown_once() -> None:
    build = Build()
    for event in BAD[:-1]:
        build.feed(event)
    build.feed(events.StepFailed(step=2, at=T, error="Dockerfile:3: RUN make: exit code 2", output="warned"))
    assert list(failure_lines(build)) == ["------", " > [build 2/2] RUN make all:", "warned", "------"]


class Screen(io.StringIO):
    """Follows what the view writes, as a terminal does."""

    encoding = "utf-8"

    def lines(self) -> list[str]:
        """What is on the screen now; the last line is the one with the cursor."""
        lines = [""]
        for part in re.split(r"(\033\[\d+A\r\033\[J|\n)", self.getvalue()):
            if part == "\n":
                lines.append("")
            elif up := re.fullmatch(r"\033\[(\d+)A\r\033\[J", part):
                del lines[-int(up[1]) - 1 :]
                lines.append("")
            else:
                lines[-1] += part
        return lines


def view(screen: Screen, monkeypatch: pytest.MonkeyPatch, columns: int = 80, rows: int = 24) -> LiveView:
    monkeypatch.setattr(terminal, "size", lambda: (rows, columns))
    return LiveView(screen, clock=lambda: 0.0)


def drawn(happened: list[events.BuildEvent], monkeypatch: pytest.MonkeyPatch, **size: int) -> list[str]:
    """The screen after these events, while the build goes on."""
    screen = Screen()
    shown = view(screen, monkeypatch, **size)
    for event in happened:
        shown.show(event)
    return screen.lines()


def test_a_running_step_has_a_line_and_the_last_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(GOOD[:16], monkeypatch)
    assert [re.sub(r"  +.*", "", line) for line in lines] == [
        " ✔ [internal] load build context", " ✔ [internal] pull library/debian:12", " ✔ [build 1/2] FROM debian:12",
        " ✔ [stage-1 1/2] FROM scratch", " ⠋ [build 2/2] RUN make all", "", "", " building 2/4", "",
    ]  # fmt: skip
    assert lines[2].endswith(" cached") and lines[4].endswith(" 0.0s")
    assert lines[5:7] == ["   │ warned", "   │ cc -c a.c"]


def test_when_it_ends_what_it_wrote_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    with view(screen, monkeypatch) as shown:
        for event in GOOD:
            shown.show(event)
    shown.end()
    lines = screen.lines()
    assert not any("warned" in line for line in lines)
    assert lines[4].startswith(" ✔ [build 2/2] RUN make all ") and lines[4].endswith(" 3.0s")
    assert lines[6:9] == [" ✔ exporting to image", "   writing image sha256:1", "   naming to docker.io/library/a:1"]
    assert lines[9:] == [
        " 0.0s, 4/4 steps", "", "1 warning found (`hooper build --check` shows more):",
        " - StageNameCasing: should be lowercase (Dockerfile:1)", "",
        "[Warning] One or more build-args were not consumed", "",
    ]  # fmt: skip


def test_a_failed_step_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(BAD, monkeypatch)
    assert lines[-3].startswith(" ✘ [build 2/2] RUN make all") and lines[-3].endswith("3.0s")


def test_a_download_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    line = drawn(GOOD[:4], monkeypatch)[1]
    assert "━" * 10 + " " * 10 + " 5B/10B 0.0s" in line
    status = events.StepStatus(step=4, text="downloading", current=3 * 10**6, total=4 * 10**6, at=T)
    line = drawn([PLAN, events.StepStarted(step=4, at=T), status], monkeypatch)[0]
    assert "━" * 15 + " " * 5 + " 3MB/4MB" in line


def test_lines_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = events.StepOutput(step=2, stream=1, data="漢字".encode() * 40 + b"\n", at=T)
    for columns in (8, 20, 40):
        lines = drawn([*GOOD[:13], wide], monkeypatch, columns=columns)
        from rich.cells import cell_len

        assert all(cell_len(line) < columns for line in lines), (columns, lines)


def test_a_low_terminal_is_not_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    many = planned(*((str(at), f"RUN {at}") for at in range(30)))
    started = [events.StepStarted(step=at, at=T) for at in range(30)]
    lines = drawn([many, *started], monkeypatch, rows=10)
    assert len(lines) <= 10


def test_what_a_command_writes_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = events.StepOutput(step=2, stream=1, data=b"\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b[0m\x00\x9b2J\n", at=T)
    lines = drawn([*GOOD[:13], evil], monkeypatch)
    assert lines[-3].startswith("   │ red") and "\x1b" not in "".join(lines) and "\x07" not in "".join(lines)


def test_a_terminal_made_narrower_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    shown = view(screen, monkeypatch, columns=80)
    shown.show(PLAN)
    shown.show(events.StepStarted(step=2, at=T))
    monkeypatch.setattr(terminal, "size", lambda: (24, 40))
    before = screen.getvalue()
    shown.show(events.StepDone(step=2, at=T))
    assert screen.getvalue().removeprefix(before).startswith("\033[4A")


def test_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    screen.encoding = "ascii"
    shown = view(screen, monkeypatch, columns=30)
    for event in GOOD[:16]:
        shown.show(event)
    assert screen.getvalue().isascii()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0s"), (59.94, "59.9s"), (61, "1m01s"), (3599, "59m59s"), (7260, "2h01m")]
)
def test_elapsed(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text


def test_rows() -> None:
    assert row("left", "right", 30) == "left" + " " * 20 + "right"
    assert row("a long text on the left", "right", 26) == "a long text on the… right"
    assert row("a long text", "right", 12) == "a long text"


def traced(happened: list[events.BuildEvent], tmp_path: Path) -> list[dict[str, object]]:
    trace = Trace(clock=lambda: T + 9 * S)
    for event in happened:
        trace.add(event)
    trace.write(str(tmp_path / "t.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["displayTimeUnit"] == "ms"
    return list(content["traceEvents"])


def check_format(found: list[dict[str, object]]) -> None:
    """What Perfetto's importer asks of each event."""
    named = {one["tid"] for one in found if one["name"] == "thread_name"}
    open_until: dict[object, float] = {}
    for one in found:
        assert one["ph"] in ("X", "M", "i") and isinstance(one["pid"], int) and isinstance(one["args"], dict)
        if one["ph"] == "M":
            continue
        assert one["tid"] in named and isinstance(one["ts"], float)
        if one["ph"] == "X":
            assert isinstance(one["dur"], float) and one["dur"] >= 0
            assert one["ts"] >= open_until.get(one["tid"], 0.0), "slices of a track overlap"
            open_until[one["tid"]] = one["ts"] + one["dur"]


def test_a_timeline(tmp_path: Path) -> None:
    found = traced(GOOD, tmp_path)
    check_format(found)
    slices = {str(one["name"]): one for one in found if one["ph"] == "X"}
    assert set(slices) == {
        "load build context", "pull library/debian:12", "[build 1/2] FROM debian:12", "[stage-1 1/2] FROM scratch",
        "[build 2/2] RUN make all", "[stage-1 2/2] COPY --from=build /x /", "export image",
    }  # fmt: skip
    run = slices["[build 2/2] RUN make all"]
    assert (run["ts"], run["dur"], run["cat"]) == ((T + S) / 1000, 3e6, "step")
    assert run["args"] == {"instruction": "RUN make all", "line": "Dockerfile:3", "cached": False, "result": "sha256:r"}
    assert slices["[build 1/2] FROM debian:12"]["cat"] == "cached"
    assert any(one["ph"] == "i" and one["name"] == "cached" for one in found)
    tracks = {one["tid"]: one["args"] for one in found if one["name"] == "thread_name"}
    assert tracks[run["tid"]] == {"name": "stage build"}


def test_a_timeline_of_a_failure_and_of_what_was_stopped(tmp_path: Path) -> None:
    other = planned(("a", "RUN one"), ("a", "RUN two"))
    happened: list[events.BuildEvent] = [
        other,
        events.StepStarted(step=0, at=T),
        events.StepStarted(step=1, at=T),
        events.StepFailed(step=0, at=T + S, error="exit code 2", exit_code=2),
    ]
    found = traced(happened, tmp_path)
    check_format(found)
    slices = {str(one["name"]): one for one in found if one["ph"] == "X"}
    failed = slices["[a 1/2] RUN one"]
    assert failed["cat"] == "failed" and failed["args"] == {
        "instruction": "RUN one",
        "error": "exit code 2",
        "exit_code": 2,
    }
    assert slices["[a 2/2] RUN two"]["cat"] == "stopped"
    assert slices["[a 2/2] RUN two"]["tid"] != failed["tid"]
    assert any(one["ph"] == "i" and str(one["name"]).startswith("failed: ") for one in found)


def test_a_timeline_that_cannot_be_written(tmp_path: Path) -> None:
    from hooper.cli.build_trace import check_trace

    check_trace(str(tmp_path / "new"))
    for path in (tmp_path, tmp_path / "no" / "such"):
        with pytest.raises(BadFlag, match="--trace"):
            check_trace(str(path))


def test_a_check() -> None:
    assert list(check_lines([])) == ["Check complete, no warnings found."]
    late = events.Warned(rule="B", message="second", origin=Origin("Dockerfile", 7, 7, "RUN x"))
    early = events.Warned(
        rule="A", message="first", url="https://u", origin=Origin("Dockerfile", 1, 2, "FROM a \\\n AS B")
    )
    assert list(check_lines([late, early])) == [
        "Check complete, 2 warnings have been found!", "",
        "WARNING: A - https://u", "first", "", "Dockerfile:1", "-" * 20,
        "   1 | >>> FROM a \\", "   2 | >>>  AS B", "-" * 20,
        "", "WARNING: B", "second", "", "Dockerfile:7", "-" * 20, "   7 | >>> RUN x", "-" * 20,
    ]  # fmt: skip
    assert next(check_lines([early])) == "Check complete, 1 warning has been found!"
