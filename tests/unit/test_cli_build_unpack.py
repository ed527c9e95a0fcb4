"""Archives of a build are unpacked where they are to go and nowhere else; agents sign, and do nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from hooper.api.errors import DataLoss, InvalidArgument
from hooper.client.ssh_agents import KeyAgent, forward
from hooper.client.unpacking import keep_archive, unpack


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644, **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1_000_000
    for key, value in more.items():
        setattr(info, key, value)
    return info


def packed(*entries: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def test_a_tree(tmp_path: Path) -> None:
    devices = unpack(
        packed(
            (entry("./"), b""),
            (entry("d", tarfile.DIRTYPE, mode=0o500), b""),
            (entry("d/f", mode=0o4750), b"content"),
            (entry("/absolute"), b"x"),
            (entry("deep/er/g"), b"y"),
            (entry("l", tarfile.SYMTYPE, "/etc/passwd"), b""),
            (entry("h", tarfile.LNKTYPE, "d/f"), b""),
            (entry("p", tarfile.FIFOTYPE), b""),
            (entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        ),
        str(tmp_path / "new" / "out"),
    )
    out = tmp_path / "new" / "out"
    assert devices == 1
    assert {str(path.relative_to(out)) for path in out.rglob("*")} == {
        "d", "d/f", "absolute", "deep", "deep/er", "deep/er/g", "l", "h", "p",
    }  # fmt: skip
    assert (out / "d").stat().st_mode & 0o7777 == 0o500 and (out / "d").stat().st_mtime == 1_000_000
    assert (out / "d" / "f").stat().st_mode & 0o7777 == 0o4750
    assert (out / "h").stat().st_ino == (out / "d" / "f").stat().st_ino
    assert os.readlink(out / "l") == "/etc/passwd" and (out / "p").is_fifo()
    assert (out / "d" / "f").read_bytes() == b"content" and (out / "d" / "f").stat().st_uid == os.getuid()


def test_what_is_there_stays_or_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o400)
    (tmp_path / "d").write_text("no directory")
    unpack(packed((entry("f"), b"new"), (entry("d", tarfile.DIRTYPE), b""), (entry("d/g"), b"g")), str(tmp_path))
    assert (tmp_path / "kept").read_text() == "kept" and (tmp_path / "f").read_text() == "new"
    assert (tmp_path / "d" / "g").read_text() == "g"


@pytest.mark.parametrize(
    "hostile",
    [
        [(entry("../evil"), b"x")],
        [(entry("a/../../evil"), b"x")],
        [(entry("way", tarfile.SYMTYPE, ".."), b""), (entry("way/evil"), b"x")],
        [(entry("way", tarfile.SYMTYPE, ".."), b""), (entry("way/evil", tarfile.DIRTYPE), b"")],
        [(entry("there/evil"), b"x")],
        [(entry("there", tarfile.DIRTYPE), b""), (entry("there/evil"), b"x")],
        [(entry("evil", tarfile.SYMTYPE, "../evil"), b""), (entry("evil"), b"x")],
        [(entry("h", tarfile.LNKTYPE, "../secret"), b""), (entry("h"), b"x")],
        [(entry("way", tarfile.SYMTYPE, ".."), b""), (entry("h", tarfile.LNKTYPE, "way/secret"), b"")],
    ],
)
def test_nothing_leaves_the_directory(tmp_path: Path, hostile: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "there").symlink_to("..")
    secret = tmp_path / "secret"
    secret.write_text("kept")
    with contextlib.suppress(InvalidArgument):
        unpack(packed(*hostile), str(out))
    assert sorted(os.listdir(tmp_path)) == ["out", "secret"]
    assert secret.read_text() == "kept" and secret.stat().st_nlink == 1


@pytest.mark.parametrize("size", [0, 100, 700, 1024])
def test_an_archive_that_ends_too_early(tmp_path: Path, size: int) -> None:
    whole = packed((entry("f"), b"x" * 3000)).getvalue()
    path = tmp_path / "a.tar"
    path.write_text("old")
    with pytest.raises(DataLoss):
        keep_archive(io.BytesIO(whole[:size]), str(path))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.tar"]
    keep_archive(io.BytesIO(whole), str(path))
    assert path.read_bytes() == whole
    if size > 512:
        with pytest.raises(DataLoss):
            unpack(io.BytesIO(whole[:size]), str(tmp_path / "out"))


def test_a_directory_is_not_given_up_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(InvalidArgument, match="a directory is in its place"):
        unpack(packed((entry("f"), b"x")), str(tmp_path))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    if not shutil.which("ssh-agent"):
        pytest.skip("there is no OpenSSH here")
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f", path], check=True, timeout=30)
    return path


def test_an_agent_lists_and_signs_and_nothing_else(key: Path, tmp_path: Path) -> None:
    agent = KeyAgent([str(key)])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "forwarded"))
    listener.listen()

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                forward(connection, agent.socket)

    threading.Thread(target=serve, daemon=True).start()
    environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "forwarded")}

    def add(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ssh-add", *words], env=environment, capture_output=True, text=True, timeout=20, check=False
        )

    try:
        assert "mine" in add("-l").stdout
        assert add("-T", f"{key}.pub").returncode == 0  # signs, and verifies it
        assert add("-D").returncode != 0 and add(str(key)).returncode != 0
        assert "mine" in add("-l").stdout
    finally:
        agent.close()
        listener.close()
    assert not os.path.exists(agent.socket) and not os.path.exists(os.path.dirname(agent.socket))


def test_a_key_that_is_none(tmp_path: Path, key: Path) -> None:
    (tmp_path / "none").write_text("no key")
    (tmp_path / "none").chmod(0o600)
    with pytest.raises(InvalidArgument, match="cannot use the SSH key"):
        KeyAgent([str(key), str(tmp_path / "none")])
