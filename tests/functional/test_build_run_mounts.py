"""Files that commands of builds have mounted: binds of sources and images, tmpfs, and the places for them."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from functools import partial

import pytest
from build_run_support import (
    Client,
    Ran,
    opened,
)

import support
from hooper.api.build_graph import BindMount, CacheMount, ImageSource, SecretMount, TmpfsMount
from hooper.api.errors import HooperError, InvalidArgument

pytestmark = pytest.mark.root


# --- bind -----------------------------------------------------------------------------------------


def test_bind_of_a_directory_and_a_file(builds, tree):
    node, places, root = tree
    ran = builds.ok(
        "cat /src/a /src/d/b /one; ls /sub; ! touch /src/new; ! touch /sub/new; ! sh -c 'echo x > /one'",
        BindMount(target="/src", source=node),
        BindMount(target="/sub", source=node, path="d"),
        BindMount(target="/one", source=node, path="/d/b"),
        directories=places,
    )
    assert ran.out == "A\nB\nB\nb\n"
    assert ran.layer == {}
    assert sorted(os.listdir(root)) == ["a", "d", "out", "up"]


def test_bind_of_an_image(builds):
    ran = builds.ok(
        "ls -l /i/sh; cat /p", BindMount(target="/i", source=builds.bench.image(), path="bin"),
        BindMount(target="/p", source=builds.bench.image(), path="etc/passwd"),
    )  # fmt: skip
    assert "busybox" in ran.out
    assert "user:x:1000" in ran.out
    assert ran.layer == {}


def test_no_link_leads_out_of_a_source(builds, tree):
    node, places, root = tree
    for path in ("out", "up", "up/passwd", "../../../etc/passwd"):
        with pytest.raises(InvalidArgument, match="cannot mount"):
            builds.run("cat /x", BindMount(target="/x", source=node, path=path), directories=places)
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("inner\n")
    ran = builds.ok("cat /x", BindMount(target="/x", source=node, path="out"), directories=places)
    assert ran.out == "inner\n"


def test_bind_of_what_is_not_there(builds, tree):
    node, places, _ = tree
    with pytest.raises(InvalidArgument, match='cannot mount "d/none": no such file or directory'):
        builds.run("true", BindMount(target="/x", source=node, path="d/none"), directories=places)
    for target in ("/", "//", "x/y", "/.."):
        with pytest.raises(InvalidArgument, match="invalid mount target"):
            builds.run("true", BindMount(target=target, source=node), directories=places)


def test_what_is_written_to_a_bind_is_discarded(builds, tree):
    node, places, root = tree
    root.chmod(0o751)
    ran = builds.ok(
        "echo changed > /src/a; rm /src/d/b; touch /src/new; cat /src/a; stat -c %a /src; echo more >> /one; cat /one;"
        "echo x > /img/etc/x; ls /img/etc; touch /img/bin/sh",
        BindMount(target="/src", source=node, read_only=False),
        BindMount(target="/one", source=node, path="d/b", read_only=False),
        BindMount(target="/img", source=builds.bench.image(), read_only=False),
        directories=places,
    )
    assert ran.out.split() == ["changed", "751", "B", "more", "group", "passwd", "x"]
    assert ran.layer == {}
    assert (root / "a").read_text() == "A\n"
    assert (root / "d" / "b").read_text() == "B\n"
    assert not (root / "new").exists()
    again = builds.ok("ls /img/etc", BindMount(target="/img", source=builds.bench.image(), read_only=False))
    assert again.out.split() == ["group", "passwd"]


def test_a_bind_of_an_image_of_several_layers_can_be_written(builds):
    async def scene() -> Ran:
        storage = builds.bench.core.storage
        await storage.prepare("build-above", builds.bench.busybox)
        await storage.commit("above", "build-above")
        try:
            mount = BindMount(
                target="/i", source=ImageSource(reference="", image_id="", chain="above"), read_only=False
            )
            return await builds.bench.run("rm /i/etc/group; ls /i/etc", mount)
        finally:
            await storage.remove("above")

    assert builds.call(scene).out == "passwd\n"


def test_where_there_is_no_overlayfs_a_bind_is_copied(builds, tree, monkeypatch):
    from hooper.engine.build_mounts import RunMounts

    def refused(*words):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(RunMounts, "_overlaid", refused)
    node, places, root = tree
    ran = builds.ok(
        "echo x > /src/a; cat /src/a /src/d/b; echo y > /one; cat /one; echo z > /img/etc/group; cat /img/etc/group",
        BindMount(target="/src", source=node, read_only=False),
        BindMount(target="/one", source=node, path="d/b", read_only=False),
        BindMount(target="/img", source=builds.bench.image(), read_only=False),
        directories=places,
    )
    assert ran.out == "x\nB\ny\nz\n"
    assert (root / "a").read_text() == "A\n"
    assert ran.layer == {}


# --- mount points ---------------------------------------------------------------------------------


def test_mount_points_leave_no_trace(builds, tree):
    node, places, _ = tree
    ran = builds.ok(
        "echo hi > /kept/f; mkdir -p /deep/with; touch /deep/with/content; chown 1000 /owned; true",
        BindMount(target="/kept/x/y", source=node),
        BindMount(target="/deep/er/file", source=node, path="a"),
        BindMount(target="/owned/z", source=node),
        BindMount(target="/var/lib/q", source=node),
        TmpfsMount(target="/gone/t"),
        directories=places,
    )
    assert sorted(ran.layer) == ["deep", "deep/with", "deep/with/content", "kept", "kept/f", "owned"]
    assert ran.layer["owned"].uid == 1000


def test_a_mount_point_behind_links(builds, tree):
    node, places, _ = tree
    buffer = io.BytesIO(support.busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for name, target in (("var/run", "/run/deep"), ("inner", "../../../home"), ("loop", "loop")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    chain = builds.call(lambda: builds.bench.imported("links", buffer.getvalue()))
    ran = builds.ok(
        "cat /run/deep/x/a /home/y/b; ls -l /var/run /inner | wc -l",
        BindMount(target="/var/run/x", source=node),
        BindMount(target="/inner/y/b", source=node, path="d/b"),
        BindMount(target="/var/../run/z", source=node),
        directories=places,
        chain=chain,
    )
    assert ran.out.startswith("A\nB\n")
    assert ran.layer == {}
    with pytest.raises(HooperError):
        builds.run("true", BindMount(target="/loop/x", source=node), directories=places, chain=chain)


def test_a_file_is_in_the_way(builds, tree):
    node, places, _ = tree
    with pytest.raises(InvalidArgument, match="cannot mount at /etc/passwd/x"):
        builds.run("true", BindMount(target="/etc/passwd/x", source=node), directories=places)
    with pytest.raises(HooperError, match="not a directory"):
        builds.run("true", BindMount(target="/etc/passwd", source=node), directories=places)


def test_mounts_in_mounts_and_twice_at_one_place(builds, tree):
    node, places, _ = tree
    ran = builds.ok(
        "cat /t/in/b; ls /t; cat /twice",
        BindMount(target="/t/in", source=node, path="d"),
        TmpfsMount(target="/t"),
        BindMount(target="/twice", source=node, path="a"),
        BindMount(target="/twice", source=node, path="d/b"),
        directories=places,
    )
    assert ran.out == "B\nin\nB\n"
    assert ran.layer == {}


@pytest.mark.parametrize(
    "drivers",
    [
        {"storage": "vfs"},
        pytest.param(
            {"isolation": "runc"}, marks=pytest.mark.skipif(not shutil.which("runc"), reason="there is no runc")
        ),
    ],
    ids=["vfs", "runc"],
)
def test_on_other_drivers(short_tmp, tree, drivers):
    node, places, root = tree
    directory = short_tmp / "other"
    with opened(directory, **drivers) as (portal, bench):
        mounts = (
            BindMount(target="/deep/src", source=node, read_only=False),
            BindMount(target="/img", source=bench.image(), read_only=False),
            BindMount(target="/one", source=node, path="d/b"),
            CacheMount(target="/root/c", id="c"),
            TmpfsMount(target="/t"),
            SecretMount(id="s", target="/run/secrets/s", env="S"),
        )
        before = bench.left()
        run = partial(
            bench.run,
            "cat /one /run/secrets/s; echo $S; rm /deep/src/a; rm /img/etc/group;"
            "cp /one /root/c; cp /one /t; ls /root/c",
            *mounts,
            directories=places,
            client=Client({"s": b"hidden\n"}),
        )
        for _ in range(2):
            ran = portal.call(run)
            assert (ran.code, ran.out, ran.layer) == (0, "B\nhidden\nhidden\none\n", {}), ran
        support.until(lambda: bench.left() == before, what=f"{bench.left()} like {before}")
        assert (root / "a").exists()
    support.forget_network(directory / "exec")
    shutil.rmtree(directory)


# --- tmpfs ----------------------------------------------------------------------------------------


def test_tmpfs(builds):
    ran = builds.ok(
        "grep ' /t ' /proc/mounts; printf '#!/bin/sh\\necho ran\\n' > /t/x; chmod +x /t/x; /t/x;"
        "! dd if=/dev/zero of=/t/big bs=64k count=32 2>/dev/null; stat -c %a /t",
        TmpfsMount(target="/t", size=1 << 20),
    )
    assert "size=1024k" in ran.out
    assert ran.out.endswith("ran\n1777\n")
    assert ran.layer == {}
