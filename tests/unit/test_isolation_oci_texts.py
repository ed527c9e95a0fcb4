"""What an OCI runtime program says and is told."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from hooper.api import oci
from hooper.api.errors import Internal, StartFailed
from hooper_isolation_oci import document, program

PREFIX = "runc create failed: unable to start container process: "


@pytest.mark.parametrize(
    ("message", "why", "code"),
    [
        (
            PREFIX + 'exec: "x": executable file not found in $PATH',
            'exec: "x": executable file not found in $PATH',
            127,
        ),
        (
            PREFIX + 'exec: "/x": stat /x: no such file or directory',
            'exec: "/x": stat /x: no such file or directory',
            127,
        ),
        (PREFIX + 'exec: "/x": permission denied', 'exec: "/x": permission denied', 126),
        (PREFIX + "error mounting: no such file or directory", "error mounting: no such file or directory", 128),
    ],
)
def test_errors(message: str, why: str, code: int) -> None:
    error = program.start_failure(message)
    assert isinstance(error, StartFailed)
    assert (error.why, error.exit_code) == (why, code)


def test_silence_is_a_fault() -> None:
    assert isinstance(program.start_failure(""), Internal)


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = [{"level": "warning", "msg": "a"}, {"level": "error", "msg": "b"}, {"level": "info", "msg": "c"}]
    log.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n")
    assert program.last_error(log) == "b"
    assert program.last_error(tmp_path / "none") == ""


def test_limits_are_clamped() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    asked = oci.Rlimit(type="RLIMIT_NOFILE", soft=5, hard=hard + 1000)
    assert document.clamp(asked) == oci.Rlimit(type="RLIMIT_NOFILE", soft=5, hard=hard)


def test_required_fields_are_written() -> None:
    spec = oci.Spec(oci_version="1.0.2", process=oci.Process(args=["true"]), root=oci.Root(path="/r"))
    written = json.loads(document.encode(spec))
    assert written["process"]["cwd"] == "/"
    assert written["ociVersion"] == "1.0.2"
