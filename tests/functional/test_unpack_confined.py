"""What a process that unpacks strangers' archives can still do on the host."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hooper.content.confinement import enter_confined
from hooper.linux import capabilities, syscalls
from hooper.testing.workers import in_child

pytestmark = pytest.mark.root


def refused(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return type(error).__name__
    return "allowed"


def open_disk() -> None:
    os.mknod("/disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.close(os.open("/disk", os.O_RDONLY))


TRIED: dict[str, Callable[[], object]] = {
    "a device of the host": open_disk,
    "a mount": lambda: syscalls.mount("/", "/", None, syscalls.MS_BIND),
    "another root": lambda: os.chroot("/"),
    "a namespace": lambda: syscalls.unshare(syscalls.CLONE_NEWNS),
    "the host's name": lambda: socket.sethostname(socket.gethostname()),
    "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "a priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
}


@pytest.mark.parametrize("what", TRIED)
def test_what_would_reach_the_host_is_refused(tmp_path: Path, what: str) -> None:
    def child() -> str:
        enter_confined({"root": str(tmp_path)})
        return refused(TRIED[what])

    assert in_child(child) == "PermissionError"


def test_files_of_every_kind_can_be_made(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")

    def child() -> None:
        enter_confined({"root": str(tmp_path)})
        Path("/file").write_text("x")
        os.setxattr("/file", "security.capability", capability)
        os.setxattr("/file", "trusted.mine", b"1")
        os.chown("/file", 1234, 5678)
        os.chmod("/file", 0o6755)
        os.mknod("/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mkdir("/others", 0o700)
        os.chown("/others", 1, 1)
        Path("/others/file").write_text("in a directory that root's group and mode would not give")
        os.utime("/file", ns=(-5, -5))

    in_child(child)
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (1234, 5678, 0o6755, -5)
    assert os.getxattr(tmp_path / "file", "trusted.mine") == b"1"
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


def test_rights_cannot_be_had_again(tmp_path: Path) -> None:
    def child() -> dict[str, str]:
        status = Path("/proc/self/status")
        descriptor = os.open(status, os.O_RDONLY)
        enter_confined({"root": str(tmp_path)})
        os.lseek(descriptor, 0, os.SEEK_SET)
        lines = os.read(descriptor, 1 << 16).decode().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    found = in_child(child)
    assert int(found["CapPrm"], 16) == int(found["CapEff"], 16)
    assert not int(found["CapPrm"], 16) & capabilities.mask(("CAP_SYS_PTRACE", "CAP_SYS_MODULE", "CAP_NET_ADMIN"))
    assert int(found["CapBnd"], 16) & ~int(found["CapPrm"], 16) == 0
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
