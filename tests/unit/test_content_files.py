"""What workers do in trees: cp, export, COPY, WORKDIR, listings."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hooper.api.errors import DataLoss, InvalidArgument, NotFound
from hooper.content import files
from hooper.content.unpack import apply_layer
from hooper.testing.workers import in_child

pytestmark = pytest.mark.root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, content in {"etc/passwd": "root:x:0:0::/:\napp:x:1000:1001::/:\n", "etc/group": "app:x:1001:\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "data/sub").mkdir(parents=True)
    (root / "data/sub/file").write_text("content")
    (root / "link").symlink_to("/data/sub")
    (root / "out").symlink_to("../../../../../../etc")
    return root


def call(function: Any, root: Path, fds: tuple[int, ...] = (), **arguments: Any) -> Any:
    return in_child(lambda: function({"root": str(root), **arguments}, fds))


def archive_of(root: Path, path: str, tmp_path: Path, function: Any = files.archive_path) -> dict[str, tarfile.TarInfo]:
    with (tmp_path / "archive").open("w+b") as file:
        call(function, root, (file.fileno(),), path=path)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            return {member.name: member for member in archive}


def tar(members: Mapping[str, str | None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.uid = member.gid = 77
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


def put(tmp_path: Path, data: bytes) -> int:
    (tmp_path / "input").write_bytes(data)
    return os.open(tmp_path / "input", os.O_RDONLY)


def test_stat_does_not_follow_a_link(tree: Path) -> None:
    os.utime(tree / "data/sub/file", ns=(0, 1_700_000_000_120_000_000))
    os.chmod(tree / "data/sub/file", 0o4755)
    found = call(files.stat_path, tree, path="/link/file")
    assert found == {
        "name": "file", "size": 7, "mode": 1 << 23 | 0o755, "mtime": "2023-11-14T22:13:20.12Z", "link_target": "",
    }  # fmt: skip
    assert call(files.stat_path, tree, path="link")["link_target"] == "/data/sub"
    assert call(files.stat_path, tree, path="link")["mode"] == 1 << 27 | 0o777
    assert call(files.stat_path, tree, path="/link/")["mode"] == 1 << 31 | 0o755
    assert call(files.stat_path, tree, path="/out")["link_target"] == "/etc"
    assert call(files.stat_path, tree, path="/")["name"] == "/"


@pytest.mark.parametrize("path", ["/missing", "/data/sub/file/x", "/missing/x"])
def test_what_is_missing_is_not_found(tree: Path, path: str) -> None:
    with pytest.raises(NotFound, match="Could not find the file"):
        call(files.stat_path, tree, path=path)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/data", ["data", "data/sub", "data/sub/file"]),
        ("/data/", ["data", "data/sub", "data/sub/file"]),
        ("/data/.", [".", "./sub", "./sub/file"]),
        ("data/sub/file", ["file"]),
        ("/link", ["link"]),
        ("/link/.", [".", "./file"]),
        ("/out/passwd", ["passwd"]),
    ],
)
def test_an_archive_begins_with_the_paths_last_part(tree: Path, tmp_path: Path, path: str, names: list[str]) -> None:
    assert list(archive_of(tree, path, tmp_path)) == names


def test_an_export_has_everything_once(tree: Path, tmp_path: Path) -> None:
    found = archive_of(tree, "", tmp_path, files.export_tree)
    assert set(found) == {
        "data", "data/sub", "data/sub/file", "etc", "etc/group", "etc/passwd", "link", "out",
    }  # fmt: skip


def test_an_archive_is_extracted_in_a_directory(tree: Path, tmp_path: Path) -> None:
    fd = put(tmp_path, tar({"new": "1", "d": None, "d/x": "2"}))
    call(files.extract_path, tree, (fd,), path="/link")
    assert (tree / "data/sub/d/x").read_text() == "2"
    assert (tree / "data/sub/new").stat().st_uid == 77
    with pytest.raises(NotFound):
        call(files.extract_path, tree, (fd,), path="/missing")
    with pytest.raises(InvalidArgument, match="not a directory"):
        call(files.extract_path, tree, (fd,), path="/data/sub/file")


def test_owners_of_an_extraction(tree: Path, tmp_path: Path) -> None:
    fd = put(tmp_path, tar({"new": "1"}))
    call(files.extract_path, tree, (fd,), path="/data", copy_uid_gid=True, user="app")
    assert ((tree / "data/new").stat().st_uid, (tree / "data/new").stat().st_gid) == (1000, 1001)


@pytest.mark.parametrize("members", [{"sub": "file"}, {"file": None}])
def test_directories_and_files_are_kept_apart(tree: Path, tmp_path: Path, members: dict[str, str | None]) -> None:
    (tree / "data/file").write_text("1")
    fd = put(tmp_path, tar(members))
    with pytest.raises(InvalidArgument, match="cannot overwrite"):
        call(files.extract_path, tree, (fd,), path="/data", no_overwrite_dir_non_dir=True)
    os.lseek(fd, 0, os.SEEK_SET)
    call(files.extract_path, tree, (fd,), path="/data")


def test_read_file(tree: Path) -> None:
    assert call(files.read_file, tree, path="/link/file") == b"content"
    assert b"app" in call(files.read_file, tree, path="/out/passwd")
    with pytest.raises(NotFound):
        call(files.read_file, tree, path="/none")
    with pytest.raises(InvalidArgument):
        call(files.read_file, tree, path="/data")


def test_make_directory(tree: Path) -> None:
    old = os.umask(0o077)
    try:
        assert call(files.make_directory, tree, path="/link/a/b", user="app:app")
    finally:
        os.umask(old)
    status = (tree / "data/sub/a/b").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 1000, 1001)
    assert not call(files.make_directory, tree, path="/link/a/b", user="")
    with pytest.raises(InvalidArgument):
        call(files.make_directory, tree, path="/data/sub/file", user="")
    with pytest.raises(InvalidArgument):
        call(files.make_directory, tree, path="/data/sub/file/x", user="")


# --- listings ----------------------------------------------------------------------------------------


def listing(root: Path, *paths: str) -> dict[str, tuple[str, str]]:
    rows = call(files.list_tree, root, paths=[os.fsencode(path) for path in paths])
    return {os.fsdecode(path): (kind, digest) for path, kind, digest, _, _ in rows}


def test_a_listing_has_what_is_at_and_below(tree: Path) -> None:
    assert {path: kind for path, (kind, _) in listing(tree, "").items()} == {
        "data": "directory", "data/sub": "directory", "data/sub/file": "file", "etc": "directory",
        "etc/group": "file", "etc/passwd": "file", "link": "symlink", "out": "symlink",
    }  # fmt: skip
    assert list(listing(tree, "data/sub")) == ["data/sub", "data/sub/file"]
    assert list(listing(tree, "./link/")) == ["link", "link/file"]
    with pytest.raises(NotFound, match="nothing"):
        listing(tree, "nothing")


def test_a_digest_is_of_what_a_copy_carries(tree: Path) -> None:
    path = tree / "data/sub/file"
    before = listing(tree, "")
    os.utime(path, (1, 1))
    os.chown(path, 5, 5)
    assert listing(tree, "") == before
    changes: list[Any] = [
        lambda: path.write_text("CONTENT"),
        lambda: path.chmod(0o600),
        lambda: os.setxattr(path, "user.x", b"1"),
    ]
    for change in changes:
        change()
        after = listing(tree, "")
        assert {name for name in after if after[name] != before[name]} == {"data/sub/file"}
        before = after


# --- COPY and ADD ------------------------------------------------------------------------------------


def chosen(source: Path, paths: list[str], *, parents: bool = False, exclude: Sequence[str] = ()) -> dict[str, Any]:
    given = [os.fsencode(path) for path in paths]
    found: dict[str, Any] = call(
        files.choose_files, source, paths=given, literal=False, parents=parents, owners=False,
        exclude=[os.fsencode(pattern) for pattern in exclude],
    )  # fmt: skip
    return found


def copy(
    target: Path, source: Path, paths: list[str], destination: str, exclude: Sequence[str] = (), **more: Any
) -> None:
    found = chosen(source, paths, parents=more.get("parents", False), exclude=exclude)
    arguments = {
        "sources": [{"root": str(source), "items": found["items"]}], "destination": os.fsencode(destination),
        "several": found["matched"] > 1, "chown": "", "chmod": "", "keep_owner": False, "unpack": False,
        "parents": False, **more,
    }  # fmt: skip
    call(files.copy_files, target, **arguments)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "d/e").mkdir(parents=True)
    for name in ("a", "b", "d/x", "d/e/y"):
        (root / name).write_text(name)
        os.chown(root / name, 33, 33)
        os.utime(root / name, (0, 1000))
    (root / "d/e").chmod(0o700)
    (root / "to-a").symlink_to("a")
    (root / "d/rel").symlink_to("../../../../etc/passwd")
    return root


@pytest.mark.parametrize(
    ("paths", "destination", "made"),
    [
        (["a"], "/new", {"new": "a"}),
        (["a"], "/new/", {"new/a": "a"}),
        (["a"], "/data", {"data/a": "a"}),
        (["a"], "/x/y/z", {"x/y/z": "a"}),
        (["a"], "/data/sub/file", {"data/sub/file": "a"}),
        (["a"], "/link", {"data/sub/a": "a"}),
        (["a", "b"], "/new", {"new/a": "a", "new/b": "b"}),
        (["d"], "/new", {"new/x": "d/x", "new/e/y": "d/e/y"}),
        (["d"], "/data", {"data/x": "d/x", "data/sub/file": "content"}),
        (["to-a"], "/new", {"new": "a"}),
        (["d/e/y"], "/out/", {"etc/y": "d/e/y"}),
    ],
)
def test_copy_by_dockers_rules(
    tree: Path, context: Path, paths: list[str], destination: str, made: dict[str, str]
) -> None:
    copy(tree, context, paths, destination)
    assert {name: (tree / name).read_text() for name in made} == made


def test_what_a_copy_carries_over(tree: Path, context: Path) -> None:
    copy(tree, context, ["d"], "/new")
    status = (tree / "new/x").stat()
    assert (status.st_uid, status.st_gid, status.st_mtime) == (0, 0, 1000)
    assert stat.S_IMODE((tree / "new/e").stat().st_mode) == 0o700
    assert os.readlink(tree / "new/rel") == "../../../../etc/passwd"
    copy(tree, context, ["d"], "/kept", keep_owner=True)
    assert (tree / "kept/x").stat().st_uid == 33
    copy(tree, context, ["d"], "/own", chown="app", chmod="4750")
    for name in ("own/x", "own/e"):
        status = (tree / name).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1000, 1001, 0o4750)
    assert (tree / "own").stat().st_uid == 1000
    copy(tree, context, ["a"], "/way/to/it", chown="app")
    for name in ("way", "way/to", "way/to/it"):
        assert ((tree / name).stat().st_uid, (tree / name).stat().st_gid) == (1000, 1001)
    copy(tree, context, ["a"], "/number", chown="12")
    assert ((tree / "number").stat().st_uid, (tree / "number").stat().st_gid) == (12, 12)
    with pytest.raises(InvalidArgument, match="nobody-knows"):
        copy(tree, context, ["a"], "/x", chown="nobody-knows")


def test_a_copied_directory_replaces_a_link(tree: Path, context: Path) -> None:
    (tree / "new").mkdir()
    (tree / "new/e").symlink_to("/etc")
    copy(tree, context, ["d"], "/new")
    assert (tree / "new/e/y").read_text() == "d/e/y"
    assert not (tree / "etc/y").exists()


def test_a_source_that_is_missing_or_leads_out(tree: Path, context: Path) -> None:
    for name, outside in (("none", b""), ("d/rel", b"../../../../etc/passwd")):
        assert chosen(context, [name])["missing"] == [name.encode(), b"", outside]
    item = {"root": str(context), "items": [[b"none", b"none", None]]}
    with pytest.raises(NotFound, match="none"):
        copy(tree, context, ["a"], "/new", sources=[item])


@pytest.mark.parametrize(
    ("paths", "exclude", "made"),
    [
        (["d"], ["e"], {"x"}),
        (["d"], ["*", "!e/y"], {"e", "e/y"}),
        (["d"], ["**"], set()),
        (["a", "b"], ["b"], {"a"}),
        ([""], ["d", "to-a"], {"a", "b"}),
    ],
)
def test_what_is_excluded_is_not_copied(
    tree: Path, context: Path, paths: list[str], exclude: list[str], made: set[str]
) -> None:
    copy(tree, context, paths, "/new/", exclude=exclude)
    assert {str(path.relative_to(tree / "new")) for path in (tree / "new").rglob("*")} == made - {"d/rel"} | (
        {"rel"} if paths == ["d"] and exclude == ["e"] else set()
    )
    if "e" in made:
        assert stat.S_IMODE((tree / "new/e").stat().st_mode) == 0o700


def test_parents_are_copied_as_they_are(tree: Path, context: Path) -> None:
    (context / "d").chmod(0o711)
    os.utime(context / "d", (0, 500))
    copy(tree, context, ["d/e/y", "d/./x"], "/new", parents=True)
    assert (tree / "new/d/e/y").read_text() == "d/e/y"
    assert (tree / "new/x").read_text() == "d/x"
    assert [stat.S_IMODE((tree / name).stat().st_mode) for name in ("new", "new/d", "new/d/e")] == [0o755, 0o711, 0o700]
    assert (tree / "new/d").stat().st_mtime == 500


def test_modes_by_symbols(tree: Path, context: Path) -> None:
    (context / "d/x").chmod(0o700)
    copy(tree, context, ["d"], "/new", chmod="u=rwX,go=rX")
    modes = {name: stat.S_IMODE((tree / "new" / name).stat().st_mode) for name in ("x", "e", "e/y")}
    assert modes == {"x": 0o755, "e": 0o755, "e/y": 0o644}
    with pytest.raises(InvalidArgument, match="invalid chmod parameter"):
        copy(tree, context, ["d"], "/new", chmod="nonsense")


def test_special_files_and_names(tree: Path, context: Path) -> None:
    odd = os.fsencode(context) + b"/d/\xff\xfe"
    with open(odd, "wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    os.setxattr(odd, "user.kept", b"1")
    os.link(odd, context / "d/again")
    (context / "d/again").chmod(0o4711)
    os.mkfifo(context / "d/fifo")
    copy(tree, context, ["d"], "/new")
    made = os.stat(os.fsencode(tree) + b"/new/\xff\xfe")
    assert (made.st_nlink, made.st_size, stat.S_IMODE(made.st_mode)) == (2, (8 << 20) + 3, 0o4711)
    assert made.st_ino == (tree / "new/again").stat().st_ino
    assert made.st_blocks * 512 < 1 << 20
    assert os.getxattr(tree / "new/again", "user.kept") == b"1"
    assert stat.S_ISFIFO((tree / "new/fifo").stat().st_mode)


def test_a_later_source_does_not_change_what_an_earlier_one_is_linked_to(tree: Path, context: Path) -> None:
    (context / "one").mkdir()
    (context / "two").mkdir()
    (context / "one/f").write_text("first")
    os.link(context / "one/f", context / "two/g")
    (context / "two/f").write_text("second")
    copy(tree, context, ["one", "two"], "/new/")
    assert [(tree / "new" / name).read_text() for name in "fg"] == ["second", "first"]


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz", "zstd"])
def test_archives_of_every_kind_are_unpacked(tree: Path, context: Path, compression: str) -> None:
    import bz2
    import gzip
    import lzma

    import zstandard

    pack = {
        "none": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
        "zstd": zstandard.ZstdCompressor().compress,
    }[compression]  # fmt: skip
    content = pack(tar({"in/file": "1" * 5000, "in/other": "2"}))
    (context / "archive").write_bytes(content)
    copy(tree, context, ["archive"], "/new", unpack=True, chown="5:6")
    assert (tree / "new/in/other").read_text() == "2"
    assert ((tree / "new/in/other").stat().st_uid, (tree / "new/in/other").stat().st_gid) == (5, 6)


def test_a_damaged_archive_is_one_error(tree: Path, context: Path) -> None:
    (context / "archive").write_bytes(tar({"in": "1" * 5000})[:2000])
    with pytest.raises(InvalidArgument, match="cannot unpack archive: the archive is damaged"):
        copy(tree, context, ["archive"], "/new", unpack=True)


def test_add_unpacks_archives(tree: Path, context: Path) -> None:
    import lzma

    (context / "a.tar.xz").write_bytes(lzma.compress(tar({"in": "1"})))
    (context / "not.tar").write_text("text")
    copy(tree, context, ["a.tar.xz", "not.tar"], "/new/", unpack=True)
    assert sorted(os.listdir(tree / "new")) == ["in", "not.tar"]
    assert (tree / "new/in").stat().st_uid == 77
    copy(tree, context, ["a.tar.xz"], "/plain", unpack=False)
    assert (tree / "plain").read_bytes() == (context / "a.tar.xz").read_bytes()


def test_sources_of_several_trees(tree: Path, context: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/c").write_text("c")
    sources = [
        {"root": str(root), "items": chosen(root, [name])["items"]}
        for root, name in ((context, "a"), (tmp_path / "more", "c"))
    ]
    copy(tree, context, ["a"], "/new", sources=sources, several=True)
    assert sorted(os.listdir(tree / "new")) == ["a", "c"]


# --- archives ----------------------------------------------------------------------------------------


def test_a_context_is_unpacked_and_confined(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    found = call(files.unpack_archive, root, (put(tmp_path, tar({"./a/.wh.b": "1", "/abs": "2"})),))
    assert found["size"] == len(tar({"./a/.wh.b": "1", "/abs": "2"}))
    assert (root / "a/.wh.b").read_text() == "1"
    assert (root / "abs").read_text() == "2"
    with pytest.raises(DataLoss, match="leads out"):
        call(files.unpack_archive, root, (put(tmp_path, tar({"../x": "1"})),))


def test_the_last_of_several_entries_wins(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    buffer = tar({"a": "1"})[:1024] + tar({"a": None, "a/b": "2"})[:1536] + tar({"a": "3", "c": None})
    call(files.unpack_archive, root, (put(tmp_path, buffer),))
    assert (root / "a").read_text() == "3"
    assert (root / "c").is_dir()


def test_whiteouts_in_overlayfs_form(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "gone").mkdir(parents=True)
    (root / "kept").touch()
    whiteout = tarfile.TarInfo("gone")
    whiteout.type = tarfile.CHRTYPE
    layer = put(tmp_path, whiteout.tobuf() + tar({"new": "1"}))
    in_child(lambda: apply_layer({"target": str(root), "whiteouts": "delete"}, (layer,)))
    assert sorted(os.listdir(root)) == ["kept", "new"]


def test_overlayfs_attributes_do_not_come_out_of_archives(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("d")
        member.type = tarfile.DIRTYPE
        member.pax_headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.good": "1"}
        archive.addfile(member)
    root = tmp_path / "root"
    root.mkdir()
    call(files.unpack_archive, root, (put(tmp_path, buffer.getvalue()),))
    assert os.listxattr(root / "d") == ["user.good"]
