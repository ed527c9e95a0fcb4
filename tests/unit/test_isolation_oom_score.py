"""The protection from the memory killer that hooper's unit gives it is not handed on to containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hooper.api import oci
from hooper_isolation_namespaces import credentials
from hooper_isolation_oci import document

SCORE = Path("/proc/self/oom_score_adj")


@pytest.mark.parametrize(("asked", "score"), [(None, 0), (0, 0), (300, 300)])
def test_namespaces(asked: int | None, score: int) -> None:
    before = int(SCORE.read_text())
    pid = os.fork()
    if pid == 0:
        # Raising is allowed to everybody, and so is going back.
        SCORE.write_text(str(before + 100))
        credentials.set_oom_score(asked)
        os._exit(int(SCORE.read_text()) != max(score, before))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(("own", "asked", "score"), [(-500, None, 0), (200, None, 200), (-500, -100, -100)])
def test_oci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: int, asked: int | None, score: int) -> None:
    present = tmp_path / "oom_score_adj"
    present.write_text(f"{own}\n")
    monkeypatch.setattr(document, "OOM_SCORE", str(present))
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        process = document.for_process(oci.Process(args=["x"], oom_score_adj=asked), root)
    finally:
        os.close(root)
    assert process.oom_score_adj == score
