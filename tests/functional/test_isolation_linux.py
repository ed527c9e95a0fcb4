"""Kernel wrappers that need root: mounts, cgroups, forks."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooper.api import oci
from hooper.api.errors import Unsupported
from hooper.api.storage import Mount
from hooper.linux import cgroups, device_rules, forking, mounts, overlay, seccomp
from hooper.linux import syscalls as sys
from hooper.linux.host import kernel_version
from hooper.linux.mount_options import parse
from hooper.testing.isolation import in_monitor

pytestmark = pytest.mark.root


def _private() -> None:
    sys.unshare(sys.CLONE_NEWNS)
    mounts.make_private()


def _layers(tmp_path: Path, count: int) -> str:
    lowers = []
    for number in range(count):
        lower = tmp_path / f"a-rather-long-name-of-a-layer-{number:04}"
        lower.mkdir()
        (lower / f"file{number}").write_text(str(number))
        (lower / "common").write_text(str(number))
        lowers.append(str(lower))
    return "lowerdir=" + ":".join(lowers)


@pytest.mark.parametrize("count", [2, 128])
@in_monitor
def test_overlay_of_many_layers(tmp_path: Path, count: int) -> None:
    _private()
    for name in ("upper", "work", "target"):
        (tmp_path / name).mkdir()
    options = (_layers(tmp_path, count), f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work")
    try:
        mounts.mount_snapshot([Mount("overlay", "overlay", options)], tmp_path / "target")
    except Unsupported:
        # Older kernels take one page of names, and so many do not fit.
        assert count == 128 and kernel_version(os.uname().release) < (6, 7)
        return
    found = sorted(path.name for path in (tmp_path / "target").iterdir())
    assert len(found) == count + 1
    assert (tmp_path / "target" / "common").read_text() == "0"
    (tmp_path / "target" / "new").write_text("x")
    assert (tmp_path / "upper" / "new").exists()


@in_monitor
def test_many_layers_on_an_old_kernel(tmp_path: Path) -> None:
    _private()
    (tmp_path / "target").mkdir()
    here = os.getcwd()
    overlay._mount_relative(str(tmp_path / "target"), sys.MS_RDONLY, [_layers(tmp_path, 90)])
    assert (tmp_path / "target" / "file89").read_text() == "89"
    assert os.getcwd() == here
    (tmp_path / "more").mkdir()
    with pytest.raises(Unsupported, match="150 layers"):
        overlay._mount_relative(str(tmp_path / "target"), 0, [_layers(tmp_path / "more", 150)])


@in_monitor
def test_targets_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "absolute").symlink_to(outside)
    (root / "upwards").symlink_to("../outside")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("/run/made/later")
    fd = os.open(root, os.O_PATH)
    for name in ("absolute/x", "upwards/y", "../../z", "dangling"):
        os.close(mounts.open_target(fd, "/" + name, directory=False))
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "z").exists()
    assert (root / "z").is_file()
    assert (root / "outside" / "y").is_file()
    assert (root / "run" / "made" / "later").is_file()
    with pytest.raises(OSError, match="symbolic links"):
        mounts.open_target(fd, "/loop", directory=True)


@in_monitor
def test_a_bind_keeps_locked_attributes(tmp_path: Path) -> None:
    _private()
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    sys.mount("tmpfs", str(source), "tmpfs", sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC)
    fd = os.open(target, os.O_PATH)
    mounts.bind(str(source), fd, parse(["rbind", "ro"]))
    flags = os.statvfs(target).f_flag
    assert flags & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC) == (
        os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
    )
    assert not os.statvfs(source).f_flag & os.ST_RDONLY


@in_monitor
def test_a_recursively_read_only_bind(tmp_path: Path) -> None:
    _private()
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    sys.mount("tmpfs", str(source), "tmpfs")
    (source / "below").mkdir()
    sys.mount("tmpfs", str(source / "below"), "tmpfs")
    for options, expected in ((["rbind", "ro"], False), (["rbind", "rro"], True)):
        fd = os.open(target, os.O_PATH)
        mounts.bind(str(source), fd, parse(options))
        assert bool(os.statvfs(target / "below").f_flag & os.ST_RDONLY) is expected
        sys.umount(str(target))


# --- cgroups --------------------------------------------------------------------------------------


@pytest.fixture
def unified() -> Iterator[Path]:
    layout = cgroups.layout()
    point = layout.unified or layout.v1.get("unified")
    if not point:
        pytest.skip("no cgroup2 is mounted")
    place = Path(point) / f"hooper-test-{os.getpid()}"
    place.mkdir()
    yield place
    place.rmdir()


def test_the_device_program(unified: Path) -> None:
    rules = [oci.DeviceRule(allow=False, access="rwm"), oci.DeviceRule(allow=True, type="c", access="m")]
    fd = os.open(unified, os.O_RDONLY)
    device_rules.attach(fd, device_rules.reduce(rules))
    assert _try_devices(unified) == {"/dev/null": "", "/dev/zero": "", "/dev/kmsg": "Operation not permitted"}
    more = [*rules, oci.DeviceRule(allow=True, type="c", major=1, minor=11, access="r")]
    device_rules.attach(fd, device_rules.reduce(more))
    assert _try_devices(unified)["/dev/kmsg"] == ""
    os.close(fd)


def _try_devices(place: Path) -> dict[str, str]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        (place / "cgroup.procs").write_text("0")
        for path in ("/dev/null", "/dev/zero", "/dev/kmsg"):
            try:
                os.close(os.open(path, os.O_RDONLY))
                text = ""
            except OSError as error:
                text = os.strerror(error.errno or 0)
            os.write(write, f"{path}={text}\n".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as file:
        return dict(line.rstrip("\n").split("=") for line in file)


@in_monitor
def test_a_fork_into_a_cgroup(unified: Path) -> None:
    fd = os.open(unified, os.O_PATH)
    read, write = os.pipe()
    pid = forking.fork_into(fd)
    if pid == 0:
        inner = os.fork()
        if inner == 0:
            os._exit(5)
        status = os.waitpid(inner, 0)[1]
        with open("/proc/self/cgroup") as file:
            os.write(write, f"{os.getpid()} {status >> 8} {file.read()}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    assert os.waitpid(pid, 0) == (pid, 0)
    assert text.startswith(f"{pid} 5 ")
    assert f"0::/{unified.name}\n" in text


@in_monitor
def test_limits_that_do_not_exist_are_named() -> None:
    group = cgroups.open_cgroup(f"/hooper/limits-{os.getpid()}")
    group.create(None)
    try:
        with pytest.raises(Unsupported, match="cpuset"):
            group.apply(oci.Resources(cpu=oci.CPU(cpus="4000")))
    finally:
        group.remove()
    assert group.directories() == {}


@in_monitor
def test_processors_can_be_chosen() -> None:
    group = cgroups.open_cgroup(f"/hooper/cpus-{os.getpid()}")
    resources = oci.Resources(cpu=oci.CPU(cpus="0", mems="0"))
    group.create(resources)
    try:
        group.apply(resources)
        pid = os.fork()
        if pid == 0:
            group.enter()
            os._exit(len(os.sched_getaffinity(0)))
        assert os.waitpid(pid, 0)[1] >> 8 == 1
    finally:
        group.remove()


# --- seccomp --------------------------------------------------------------------------------------


@in_monitor
def test_a_filter_with_conditions() -> None:
    filter = seccomp.compile_filter(
        oci.Seccomp(
            default_action="SCMP_ACT_ALLOW",
            syscalls=[
                oci.Syscall(
                    names=["socket", "no_such_call"],
                    action="SCMP_ACT_ERRNO",
                    errno_ret=95,
                    args=[oci.SyscallArg(index=0, value=16, op="SCMP_CMP_EQ")],
                )
            ],
        ).packed()
    )
    import socket

    sys.prctl(sys.PR_SET_NO_NEW_PRIVS, 1)
    filter.install()
    socket.socket(socket.AF_UNIX).close()
    with pytest.raises(OSError, match="not supported"):
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)


@in_monitor
def test_calls_newer_than_the_profile_do_not_exist() -> None:
    from hooper.linux.seccomp_default import default_profile

    libc = ctypes.CDLL(None, use_errno=True)
    seccomp.compile_filter(default_profile([], "amd64", (6, 1)).packed()).install()
    found = {}
    for number in (600, 100_000, 169, 39):  # two of the future, reboot, getpid
        libc.syscall(number, 0, 0, 0)
        found[number] = ctypes.get_errno()
        ctypes.set_errno(0)
    assert found == {600: errno.ENOSYS, 100_000: errno.ENOSYS, 169: errno.EPERM, 39: 0}
