"""Progress as lines and as bars."""

from __future__ import annotations

import io
import json
import re

import pytest

from hooper.cli.progress import show_progress
from hooper.client.errors import ApiError

PULL = [
    {"status": "Pulling from library/x", "id": "1"},
    {"status": "Downloading", "id": "aaa", "progressDetail": {"current": 5_000, "total": 10_000}},
    {"status": "Pull complete", "id": "aaa"},
    {"status": "Digest: sha256:0"},
]
BUILD = [
    {"stream": "Step 1/2 : FROM x\n"},
    {"stream": "par"},
    {"stream": "tial\n"},
    {"stream": "Step 2/2 : RUN y\n"},
    {"aux": {"ID": "sha256:1"}},
    {"stream": "Successfully built 1\n"},
]


def shown(messages: list[dict[str, object]], style: str) -> str:
    file = io.StringIO()
    show_progress(messages, file, style)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def test_lines_where_no_terminal_is() -> None:
    text = "1: Pulling from library/x\naaa: Pull complete\nDigest: sha256:0\n"
    assert shown(PULL, "auto") == shown(PULL, "plain") == text
    assert shown(BUILD, "plain") == "Step 1/2 : FROM x\npartial\nStep 2/2 : RUN y\nSuccessfully built 1\n"


def test_bars_keep_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    pull = shown(PULL, "tty")
    assert "1: Pulling from library/x" in pull and "Digest: sha256:0" in pull and "aaa: Pull complete" in pull
    build = shown(BUILD, "tty")
    for line in ("Step 1/2 : FROM x", "partial", "Step 2/2 : RUN y", "Successfully built 1"):
        assert line in re.split(r"[\r\n]+", build)
    assert "━" in pull and "━" in build and "2/2" in build


def test_raw_json_and_aux_and_failure() -> None:
    assert [json.loads(line) for line in shown(PULL, "rawjson").splitlines()] == PULL
    assert show_progress(BUILD, io.StringIO()) == [{"ID": "sha256:1"}]
    with pytest.raises(ApiError, match="boom"):
        show_progress([{"errorDetail": {"message": "boom", "code": 3}, "error": "boom"}], io.StringIO())
