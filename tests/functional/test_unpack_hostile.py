"""Images and archives that somebody made to do harm: refused by name, or harmless."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import support
from hooper.api.errors import DataLoss, HooperError, NoSpace
from hooper.content import archive_names, compression, unpack
from hooper.content.removal import remove
from hooper.content.tar import CHARACTER, DIRECTORY, FILE, HARDLINK, MAX_SEGMENTS, SYMLINK, Entry
from hooper.content.tarwrite import encode_header
from hooper.engine import layer_work
from hooper.linux import mounts, syscalls
from hooper.testing.workers import in_child

pytestmark = pytest.mark.root
END = bytes(1024)


def member(name: bytes, kind: bytes = FILE, data: bytes = b"", link: bytes = b"", **more: int) -> bytes:
    header = encode_header(Entry(name, kind, link=link, size=len(data), **more))
    return header + data + bytes(-len(data) % 512)


def pax(*records: tuple[bytes, bytes]) -> bytes:
    written = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        while len(record := b"%d %s=%s\n" % (length, key, value)) != length:
            length = len(record)
        written += record
    return member(b"pax", b"x", written)


def with_number(header: bytes, offset: int, number: bytes) -> bytes:
    """The header with another number at `offset`, and the checksum that fits."""
    block = bytearray(header[:512])
    block[offset : offset + len(number)] = number
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + header[512:]


def archive(name: str, *layers: bytes) -> bytes:
    """What `load` takes: an image of these layers."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = [
        {"Config": "c.json", "RepoTags": [name], "Layers": [f"{number}/layer.tar" for number in range(len(layers))]}
    ]
    files = {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
    files |= {"c.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    return b"".join(member(path.encode(), data=content) for path, content in files.items()) + END


def load(daemon: support.Engine, data: bytes) -> str:
    """What the daemon says to it."""
    status, text = daemon.request("POST", "/images/load?quiet=1", data, {"Content-Type": "application/x-tar"})
    return f"{status} {json.dumps(text, ensure_ascii=False) if not isinstance(text, str) else text}"


def look(daemon: support.Engine, image: str, path: str) -> dict[str, tarfile.TarInfo]:
    """The files of an image from `path` on; none if it is not there."""
    status, made = daemon.request("POST", "/containers/create", {"Image": image, "Cmd": ["x"]})
    assert status == 201, made
    url = f"http://d/containers/{made['Id']}/archive?path={path}"
    command = ["curl", "-s", "-m", "20", "--unix-socket", daemon.socket_path, url]
    found = subprocess.run(command, capture_output=True, check=True).stdout
    if found.startswith(b"{"):
        return {}
    with tarfile.open(fileobj=io.BytesIO(found)) as files:
        return {each.name.rstrip("/"): each for each in files}


# --- as Docker has it --------------------------------------------------------------------------------


def test_what_is_odd_is_as_with_docker(either: support.Engine) -> None:
    lower = member(b"gone", data=b"1") + member(b"etc/", DIRECTORY, mode=0o755) + END
    odd = b"".join([
        member(b"d/", DIRECTORY, mode=0o755),
        with_number(member(b"d/signed"), 108, b"\xff" * 7 + b"\xfe"),
        pax((b"uid", b"4294967294")) + member(b"d/huge"),
        member(b"d/setuid", mode=0o6755, uid=7),
        member(b"d/new\nline"),
        member(b"/d/absolute"),
        member(b"d//file//", data=b"1"),
        member(b"d/link", HARDLINK, link=b"/d/setuid", mode=0o6755, uid=7),
        member(b"gone", CHARACTER),
    ])  # fmt: skip
    assert load(either, archive("odd:1", lower, odd + END)).startswith("200")
    found = look(either, "odd:1", "/d")
    expected = ["d", "d/absolute", "d/file", "d/huge", "d/link", "d/new\nline", "d/setuid", "d/signed"]
    assert sorted(found) == expected
    assert [found[f"d/{name}"].uid for name in ("signed", "huge", "setuid")] == [2**32 - 2, 2**32 - 2, 7]
    assert found["d/setuid"].mode & 0o7777 == 0o6755
    assert look(either, "odd:1", "/gone") == {}


REFUSED = {
    "whiteout-of-itself": member(b".wh.."),
    "whiteout-of-parent": member(b".wh..."),
    "unknown-kind": member(b"x", b"?"),
    "root-is-a-file": member(b"/"),
    "link-out": member(b"x", HARDLINK, link=b"../../../../etc/passwd"),
    "link-by-a-symlink": member(b"way", SYMLINK, link=b"/etc") + member(b"x", HARDLINK, link=b"way/passwd"),
    "size-2-63": with_number(member(b"x"), 124, b"\x80\0\0\0\x80" + bytes(7)) + bytes(512),
    "truncated": member(b"x", data=bytes(4000))[:2000],
    "huge-pax": pax((b"comment", bytes(2 << 20))) + member(b"x"),
    "capability": pax((b"SCHILY.xattr.security.capability", b"zzz")) + member(b"x"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_docker_refuses_is_refused(either: support.Engine, case: str) -> None:
    answer = load(either, archive("refused:1", REFUSED[case]))
    assert "error" in answer or not answer.startswith("200")
    assert either.request("GET", "/images/refused:1/json")[0] == 404


# --- what hooper alone does --------------------------------------------------------------------------


def test_attributes_of_overlayfs_lead_nowhere(clean: support.Hooper) -> None:
    """A layer cannot say that a directory is another one, or hides what is below, by attributes of its own."""
    lower = member(b"secret/", DIRECTORY, mode=0o700) + member(b"secret/key") + member(b"open/", DIRECTORY, mode=0o755)
    values = {b"redirect": b"/secret", b"opaque": b"y", b"metacopy": b"", b"origin": b"x", b"whiteout": b"y"}
    names = [
        (b"%s.overlay.%s" % (kind, name), value) for kind in (b"trusted", b"user") for name, value in values.items()
    ]
    nested = [(b"trusted.overlay.overlay.opaque", b"y"), (b"user.mine", b"1")]
    attributes = pax(*((b"SCHILY.xattr." + name, value) for name, value in names + nested))
    upper = attributes + member(b"open/", DIRECTORY, mode=0o755) + member(b"open/x")
    assert load(clean, archive("overlaid:1", lower + member(b"open/below") + END, upper + END)).startswith("200")
    found = look(clean, "overlaid:1", "/open")
    assert sorted(found) == ["open", "open/below", "open/x"]
    assert [key for key in found["open"].pax_headers if "xattr" in key] == ["SCHILY.xattr.user.mine"]


@pytest.mark.parametrize("case", ["../x", "a/../../x"])
def test_names_that_lead_out_are_refused(clean: support.Hooper, case: str) -> None:
    answer = load(clean, archive("out:1", member(case.encode() + b"\x1b[2J\xff") + END))
    assert f"the name {case}\\\\x1b[2J" in answer or f"the name {case}\\x1b[2J" in answer
    assert "leads out of the archive" in answer


def outer(*members: bytes) -> bytes:
    return b"".join(members) + archive("outer:1", END)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (outer(encode_header(Entry(b"pax", b"x", size=1 << 30))), "too long"),
        (outer(member(b"x", b"L", b"a\0") * 2100), "too long"),
        (outer(with_number(member(b"x"), 124, b"\x80\0\0\0\x80" + bytes(7))), "too early"),
        (gzip.compress(outer())[:-20], "cut off"),
    ],
    ids=["pax", "long-names", "size", "cut"],
)
def test_archives_of_images_are_bounded(clean: support.Hooper, data: bytes, why: str) -> None:
    answer = load(clean, data)
    assert "cannot load the archive" in answer and why in answer
    assert clean.request("GET", "/images/outer:1/json")[0] == 404


def test_an_archive_of_an_image_may_hold_odd_things(clean: support.Hooper) -> None:
    sparse = pax((b"GNU.sparse.size", b"%d" % (1 << 43)), (b"GNU.sparse.map", b"0,0"))
    data = outer(
        member(b"\xff\xfe"), member(b"x", SYMLINK, link=b"x"), member(b"dev", CHARACTER), sparse + member(b"s")
    )
    assert load(clean, data).startswith("200")


def apply(target: Path, layer: bytes, before: Callable[[], object] = lambda: None) -> None:
    """Applies a layer in a child, after `before`."""
    file = target.parent / "layer"
    file.write_bytes(layer)
    descriptor = os.open(file, os.O_RDONLY)

    def inside() -> None:
        before()
        unpack.apply_layer({"target": str(target), "whiteouts": "delete"}, [descriptor])

    try:
        in_child(inside)
    finally:
        os.close(descriptor)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_a_bomb_on_a_small_disk(target: Path) -> None:
    def small() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        mounts.make_private("/")
        syscalls.mount("tmpfs", str(target), "tmpfs", 0, "size=4m")

    with pytest.raises(NoSpace, match="cannot unpack zeros"):
        apply(target, gzip.compress(member(b"zeros", data=bytes(16 << 20)), 1), small)


REPEATED: dict[str, tuple[int, Sequence[bytes]]] = {
    "the-same-file": (1100, [member(b"x")]),
    "whiteouts-of-nothing": (1100, [member(b".wh.x")]),
    "links": (600, [member(b"x"), member(b"y", HARDLINK, link=b"x")]),
    "directories-with-attributes": (
        60,
        [pax(*((b"SCHILY.xattr.user.%d" % number, bytes(20)) for number in range(20))) + member(b"d/", DIRECTORY)],
    ),
    "deep-paths": (1, [pax((b"path", b"/".join([b"d%d" % number] * 100))) + member(b"x") for number in range(10)]),
}


@pytest.mark.parametrize("case", REPEATED)
def test_no_archive_goes_on_for_ever(target: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The limit is lowered here: an archive that reaches it takes minutes."""
    times, members = REPEATED[case]
    with monkeypatch.context() as lowered:
        lowered.setattr(unpack, "_REMEMBERED_MAX", 1 << 17)
        with pytest.raises(DataLoss, match="damaged") as caught:
            apply(target, b"".join(members * times) + END)
    assert "too many entries" in caught.value.why
    apply(target, b"".join(members * 5) + END)


def test_nor_does_an_archive_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_names, "_MOST", 1 << 14)
    (tmp_path / "tar").write_bytes(member(b"x") * 200)
    with (tmp_path / "tar").open("rb") as file, pytest.raises(HooperError, match="cannot load") as caught:
        in_child(lambda: layer_work.spool({"directory": str(tmp_path)}, [file.fileno()]))
    assert "more entries" in caught.value.why


def test_xz_that_asks_for_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_XZ_MEMORY", 1 << 24)
    (tmp_path / "xz").write_bytes(lzma.compress(b"x" * 100, preset=9))
    with (tmp_path / "xz").open("rb") as file, pytest.raises(DataLoss) as caught:
        compression.plain_reader(file.fileno())[1]()
    assert "emory" in caught.value.why


def test_a_symlink_that_is_replaced_leads_elsewhere(target: Path) -> None:
    """What was known of the way through the old one is forgotten."""
    ways = [member(b"way", SYMLINK, link=b"%s" % place) + member(b"way/in/x", data=place) for place in (b"one", b"two")]
    apply(target, member(b"one/", DIRECTORY) + member(b"two/", DIRECTORY) + b"".join(ways) + END)
    assert [(target / place / "in/x").read_text() for place in ("one", "two")] == ["one", "two"]


def test_times_before_the_epoch(target: Path) -> None:
    apply(target, pax((b"mtime", b"-100.5")) + member(b"d/", DIRECTORY) + member(b"x", mtime=-(10**9)) + END)
    assert [os.stat(target / name).st_mtime for name in ("d", "x")] == [-100.5, -1]


def test_a_directory_that_an_archive_changes_keeps_its_time(target: Path) -> None:
    """Also if what was known of it had to be forgotten meanwhile."""
    (target / "old").mkdir()
    os.utime(target / "old", (86400, 86400))
    members = [member(b"old/d/", DIRECTORY), member(b"old/d"), member(b"old/e")]
    apply(target, b"".join(members) + END)
    assert os.stat(target / "old").st_mtime == 86400


def test_pieces_of_sparse_files(target: Path) -> None:
    def sparse(*segments: tuple[int, bytes], size: int) -> bytes:
        places = b",".join(b"%d,%d" % (place, len(data)) for place, data in segments)
        described = pax((b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.map", places))
        return described + member(b"x", data=b"".join(data for _, data in segments))

    apply(target, sparse((3, b"abc"), (10, b"d"), size=20) + END)
    assert (target / "x").read_bytes() == bytes(3) + b"abc" + bytes(4) + b"d" + bytes(9)
    pieces = [(0, b"")] * (MAX_SEGMENTS + 1)
    with pytest.raises(DataLoss) as caught:
        apply(target, sparse(*pieces, size=1) + END)
    assert "sparse map" in caught.value.why


def test_what_is_moved_while_it_is_removed_leads_nowhere_else(tmp_path: Path) -> None:
    for place in ("doomed/in/file", "other/in-it/kept"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()

    def move(gone: bytes) -> None:
        if gone.endswith(b"/file"):
            os.rename(tmp_path / "doomed/in", tmp_path / "other/in")

    with pytest.raises(OSError, match="tale"):
        remove(os.fsencode(tmp_path / "doomed"), move)
    assert sorted(os.listdir(tmp_path / "other")) == ["in", "in-it"]
    assert (tmp_path / "other/in-it/kept").exists()
