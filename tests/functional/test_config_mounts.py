"""-v, --mount, --tmpfs and --volumes-from: what the program finds, on both engines."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root


def inside(engine: Engine, *flags: str, script: str) -> list[str]:
    """Lines that a script prints in a container with these flags, however it ends."""
    return engine.docker("run", "--rm", *flags, "busybox", "sh", "-c", f"{script}\ntrue").stdout.splitlines()


def options(engine: Engine, place: str, *flags: str) -> set[str]:
    """The options of what is mounted at a place in a container with these flags."""
    (line,) = inside(engine, *flags, script=f"mount | grep ' on {place} '")
    return set(line.rpartition("(")[2].rstrip(")").split(","))


def mount_at(facts: dict[str, Any], place: str) -> dict[str, Any]:
    (found,) = [mount for mount in facts["Mounts"] if mount["Destination"] == place]
    return dict(found)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host with a file and another file system below it."""
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.fixture
def below(host: Path) -> Iterator[Path]:
    """The same, with another file system mounted in it."""
    support.run("mount", "-t", "tmpfs", "tmpfs", str(host / "sub"))
    (host / "sub" / "deep").write_text("deep\n")
    try:
        yield host
    finally:
        support.run("umount", str(host / "sub"))


def test_a_tmpfs_has_the_options_asked_for(either: Engine) -> None:
    shown = options(either, "/t", "--tmpfs", "/t:size=2m,mode=700,uid=5,exec")
    assert {"rw", "nosuid", "nodev", "size=2048k", "mode=700", "uid=5"} <= shown and "noexec" not in shown
    assert {"rw", "nosuid", "nodev", "noexec"} <= options(either, "/t", "--tmpfs", "/t")
    flags = ["--mount", "type=tmpfs,target=/t,tmpfs-size=4194304,tmpfs-mode=1770"]
    assert {"rw", "nosuid", "nodev", "noexec", "size=4096k", "mode=1770"} <= options(either, "/t", *flags)
    assert "ro" in options(either, "/t", "--mount", "type=tmpfs,target=/t,readonly")
    assert inside(either, "--tmpfs", "/etc/empty", "--tmpfs", "/bin2", script="ls -A /etc/empty /bin2 | grep -v :") == [
        ""
    ]


def test_a_tmpfs_in_inspect(either: Engine) -> None:
    flags = ["--tmpfs", "/a:size=1m", "--mount", "type=tmpfs,target=/b,tmpfs-size=4096"]
    either.docker("create", "--name", "c1", *flags, "busybox")
    facts = either.inspect("c1")
    assert facts["HostConfig"]["Tmpfs"] == {"/a": "size=1m"}
    assert facts["HostConfig"]["Mounts"] == [{"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {"SizeBytes": 4096}}]
    assert facts["Mounts"] == [
        {"Type": "tmpfs", "Source": "", "Destination": "/b", "Mode": "", "RW": True, "Propagation": ""}
    ]


def test_the_size_of_dev_shm(either: Engine) -> None:
    assert "size=3072k" in options(either, "/dev/shm", "--shm-size", "3m")
    assert "size=65536k" in options(either, "/dev/shm")
    assert inside(
        either, "--tmpfs", "/dev/shm:size=1m", script="mount | grep ' /dev/shm ' | tail -n1 | grep -c 1024k"
    ) == ["1"]


def test_binds(either: Engine, host: Path) -> None:
    script = "cat /d/file; cat /f; echo new >/d/new; touch /ro/x 2>&1"
    flags = ["-v", f"{host}:/d", "-v", f"{host}/file:/f:ro,z", "-v", f"{host}:/ro:ro"]
    shown = inside(either, *flags, script=script)
    assert shown[:2] == ["content", "content"] and "Read-only" in shown[2]
    assert (host / "new").read_text() == "new\n"
    either.docker("create", "--name", "c1", "-v", f"{host}:/d:Z,ro", "busybox")
    assert mount_at(either.inspect("c1"), "/d") == {
        "Type": "bind", "Source": str(host), "Destination": "/d", "Mode": "Z,ro", "RW": False,
        "Propagation": "rprivate",
    }  # fmt: skip


def test_a_missing_source_is_made_by_v_alone(either: Engine, tmp_path: Path) -> None:
    assert inside(either, "-v", f"{tmp_path}/a/b:/d", script="ls -A /d") == []
    assert (tmp_path / "a" / "b").is_dir()
    words = ["--mount", f"type=bind,source={tmp_path}/c,target=/d"]
    done = either.docker("run", "--rm", *words, "busybox", "true", check=False)
    assert done.returncode == 125 and f"bind source path does not exist: {tmp_path}/c" in done.stderr
    (tmp_path / "c").mkdir()
    either.docker("create", "--name", "c1", *words, "busybox", "true")
    (tmp_path / "c").rmdir()
    done = either.docker("start", "c1", check=False)
    assert done.returncode == 1 and not (tmp_path / "c").exists()


def test_mounts_of_the_host_below_a_bind(either: Engine, below: Path) -> None:
    assert inside(either, "-v", f"{below}:/d", script="cat /d/sub/deep") == ["deep"]
    words = f"type=bind,source={below},target=/d,bind-recursive=disabled"
    assert inside(either, "--mount", words, script="ls /d/sub") == []


def test_read_only_binds_are_so_to_the_depth(clean: Hooper, below: Path) -> None:
    """As since Docker 25; before, what was mounted below stayed writable."""
    script = "touch /d/x 2>&1 || touch /d/sub/x && echo written"
    for runtime in ("namespaces", "runc"):
        flags = ["--runtime", runtime, "-v", f"{below}:/d:ro"]
        shown = inside(clean, *flags, script="touch /d/x 2>/dev/null || touch /d/sub/x 2>/dev/null || echo refused")
        assert shown == ["refused"]
        words = f"type=bind,source={below},target=/d,readonly,bind-recursive=writable"
        assert inside(clean, "--runtime", runtime, "--mount", words, script=script)[-1] == "written"


def test_propagation(either: Engine, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    support.run("mount", "-t", "tmpfs", "tmpfs", str(place))
    try:
        done = either.docker("run", "--rm", "-v", f"{place}:/d:rshared", "busybox", "true", check=False)
        assert (
            done.returncode == 125 and f"path {place} is mounted on {place} but it is not a shared mount" in done.stderr
        )
        support.run("mount", "--make-shared", str(place))
        (place / "in").mkdir()
        (place / "out").mkdir()
        for mode, seen in (("rslave", "1"), ("rprivate", "0")):
            either.docker("run", "-d", "--name", "c1", "-v", f"{place}:/d:{mode}", "busybox", "sleep", "60")
            support.run("mount", "-t", "tmpfs", "tmpfs", str(place / "in"))
            assert (
                either.docker("exec", "c1", "grep", "-c", " /d/in ", "/proc/mounts", check=False).stdout.strip() == seen
            )
            support.run("umount", str(place / "in"))
            either.docker("rm", "-f", "c1")
        flags = ["-v", f"{place}:/d:rshared", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"]
        either.docker("run", "--rm", *flags, "busybox", "mount", "-t", "tmpfs", "tmpfs", "/d/out")
        assert os.path.ismount(place / "out")
        either.docker("create", "--name", "c2", "-v", f"{place}:/d:rshared", "busybox")
        assert mount_at(either.inspect("c2"), "/d")["Propagation"] == "rshared"
    finally:
        support.run("umount", "-R", str(place), check=False)


def test_volumes_from(either: Engine, host: Path) -> None:
    either.docker("create", "--name", "c1", "-v", "/v", "-v", f"{host}:/d:ro", "-v", "named1:/n", "busybox")
    try:
        flags = ["--volumes-from", "c1", "-v", f"{host}:/n"]
        shown = inside(either, *flags, script="echo x >/v/x; cat /n/file; touch /d/y 2>&1")
        assert shown[0] == "content" and "Read-only" in shown[1]
        assert inside(either, "--volumes-from", "c1:ro", script="cat /v/x; touch /v/y 2>&1")[0] == "x"
        done = either.docker("run", "--rm", "--volumes-from", "c1:ro", "busybox", "touch", "/v/y", check=False)
        assert done.returncode == 1
        volume = mount_at(either.inspect("c1"), "/v")["Name"]
        assert either.docker("volume", "inspect", volume).stdout  # --rm of the others left it
    finally:
        either.clear()
        either.docker("volume", "rm", "named1")


def test_a_place_below_another_comes_after_it(either: Engine, host: Path) -> None:
    flags = ["-v", f"{host}/file:/a/b/file", "--tmpfs", "/a/b", "-v", f"{host}:/a"]
    assert inside(either, *flags, script="ls /a/b; test -d /a/sub && echo sub") == ["file", "sub"]


def test_an_image_may_be_mounted(clean: Hooper) -> None:
    clean.docker(
        "build", "-t", "data:1", "-", stdin="FROM busybox\nRUN mkdir -p /x/y && echo deep >/x/y/f && ln -s /x/y /x/l\n"
    )
    try:
        for runtime in ("namespaces", "runc"):
            script = "cat /m/x/y/f; touch /m/new 2>&1; cat /s/f"
            flags = ["--runtime", runtime, "--mount", "type=image,source=data:1,target=/m"]
            flags += ["--mount", "type=image,source=data:1,target=/s,image-subpath=x/l"]
            shown = inside(clean, *flags, script=script)
            assert shown[0] == "deep" and "Read-only" in shown[1] and shown[2] == "deep"
        clean.docker(
            "run", "-d", "--name", "c1", "--mount", "type=image,source=data:1,target=/m", "busybox", "sleep", "60"
        )
        mount = mount_at(clean.inspect("c1"), "/m")
        assert (mount["Type"], mount["Name"], mount["RW"]) == ("image", "data:1", False)
        clean.docker("rm", "-f", "c1")
        assert not list((clean.exec_root / "mounts").iterdir())
    finally:
        clean.clear()
        clean.docker("rmi", "-f", "data:1")


def test_files_are_copied_from_and_to_the_mounts_of_a_container_that_rests(clean: Hooper, tmp_path: Path) -> None:
    clean.docker("build", "-t", "data:1", "-", stdin="FROM busybox\nRUN mkdir -p /x/y && echo deep >/x/y/f\n")
    clean.docker("run", "--rm", "-v", "parts:/v", "busybox", "sh", "-c", "mkdir -p /v/a/b; echo part >/v/a/b/f")
    (tmp_path / "host").mkdir()
    (tmp_path / "new").write_text("new\n")
    flags = ["--mount", "type=image,source=data:1,target=/m", "-v", f"{tmp_path}/host:/h:rshared"]
    flags += ["--mount", "type=image,source=data:1,target=/i,image-subpath=x/y"]
    flags += ["--mount", "type=volume,source=parts,target=/p,volume-subpath=a/b"]
    clean.docker("create", "--name", "c1", *flags, "busybox")
    try:
        for place, text in (("/m/x/y/f", "deep\n"), ("/i/f", "deep\n"), ("/p/f", "part\n")):
            clean.docker("cp", f"c1:{place}", str(tmp_path / "got"))
            assert (tmp_path / "got").read_text() == text
        for place in ("/p", "/h"):
            clean.docker("cp", str(tmp_path / "new"), f"c1:{place}/new")
        assert (tmp_path / "host" / "new").read_text() == "new\n"
        assert clean.docker("run", "--rm", "-v", "parts:/v", "busybox", "cat", "/v/a/b/new").stdout == "new\n"
        done = clean.docker("cp", str(tmp_path / "new"), "c1:/m/x/new", check=False)
        assert done.returncode == 1 and "read-only" in done.stderr.lower()
        assert not list((clean.exec_root / "mounts").iterdir())
    finally:
        clean.clear()
        clean.docker("rmi", "-f", "data:1")
        clean.docker("volume", "rm", "parts")


def test_devices(either: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "dev"
    folder.mkdir()
    os.mknod(folder / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.mknod(folder / "fuse", stat.S_IFCHR | 0o640, os.makedev(10, 229))
    script = "stat -c %t:%T:%a /dev/renamed /dev/all/*; head -c1 /dev/renamed | wc -c; " \
        "(true </dev/all/fuse) && echo read; (true >/dev/all/fuse) 2>&1"  # fmt: skip
    flags = ["--device", "/dev/zero:/dev/renamed:r", "--device", f"{folder}:/dev/all:r"]
    shown = inside(either, *flags, script=script)
    assert shown[:5] == ["1:5:666", "a:e5:640", "1:5:600", "1", "read"]
    assert "Operation not permitted" in shown[5]
    done = either.docker("run", "--rm", "--device", "/dev/nope", "busybox", check=False)
    text = 'error gathering device information while adding custom device "/dev/nope": no such file or directory'
    assert done.returncode == 127 and text in done.stderr
    done = either.docker("run", "--rm", "--device", "/etc/passwd", "busybox", check=False)
    assert done.returncode == 125 and "not a device node" in done.stderr


def test_device_cgroup_rules(either: Engine) -> None:
    script = "mknod /k c 10 229; (true </k) 2>/dev/null && echo read || echo refused"
    assert inside(either, script=script) == ["refused"]
    assert inside(either, "--device-cgroup-rule", "c 10:229 r", script=script) == ["read"]
    assert inside(either, "--device-cgroup-rule", "c 10:* rwm", script=script) == ["read"]


def test_what_the_host_mounts_for_a_container_goes_with_it(clean: Hooper, below: Path) -> None:
    def mounts() -> list[str]:
        return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(clean.exec_root) in line]

    before = mounts()
    flags = ["-v", f"{below}:/d", "--tmpfs", "/t", "--ipc", "shareable", "-v", "/anonymous"]
    clean.docker("run", "-d", "--name", "c1", *flags, "busybox", "sleep", "60")
    assert len(mounts()) == len(before) + 1  # what others may share: /dev/shm
    clean.docker("rm", "-f", "c1")
    assert mounts() == before
