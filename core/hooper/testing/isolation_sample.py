"""A container to try isolation backends with: a busybox in a directory, and Docker's defaults."""

from __future__ import annotations

import os
import select
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hooper.api import oci
from hooper.api.isolation import Bundle, IsolationBackend, Process, Stdio
from hooper.api.storage import Mount
from hooper.linux import capabilities, defaults
from hooper.linux.host import host_info
from hooper.linux.seccomp_default import packed_profile

_BUSYBOX = "/bin/busybox"
_APPLETS = "true false sh cat id env pwd ls mknod dd sleep kill hostname tty stty mount readlink grep wc test"
PATIENCE = 20.0
"""Seconds after which a process that should have ended, or written, is taken for stuck."""


class Result(msgspec.Struct):
    """How a process ended: exit code (128 + n for signal n) and what it wrote."""

    code: int
    stdout: str
    stderr: str


class Sample:
    """A container made of a busybox in a directory of its own."""

    def __init__(self, backend: IsolationBackend, directory: Path) -> None:
        self.backend = backend
        self.image = directory / "image"
        make_busybox(self.image)
        self.id = uuid.uuid4().hex * 2
        (directory / "bundle" / "rootfs").mkdir(parents=True)
        self.bundle = Bundle(
            id=self.id,
            directory=directory / "bundle",
            spec=default_spec(directory / "bundle" / "rootfs", self.id),
            rootfs=(Mount("bind", str(self.image), ("rbind",)),),
        )
        self.process: Process | None = None
        self.outputs: list[int] = []
        self.expects_execs = False
        """Whether the backend is told before each exec."""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def create(self, *args: str) -> None:
        """Creates the container with these arguments; a terminal if the spec has one."""
        self.bundle.spec.process.args = list(args)
        stdio, self.outputs = self._stdio(terminal=self.bundle.spec.process.terminal)
        try:
            self.process = self.backend.create(self.bundle, stdio)
        finally:
            _close(stdio)

    def start(self, *args: str) -> None:
        self.create(*args)
        assert self.process is not None
        self.backend.start(self.bundle, self.process)

    def run(self, *args: str) -> Result:
        """Runs the container to its end and deletes it."""
        try:
            self.start(*args)
            return self.finish()
        finally:
            self.backend.delete(self.bundle)

    def finish(self) -> Result:
        """Reads all that the first process writes, and waits for it."""
        return _finish(self.pid, self.outputs)

    def exec(self, *args: str, **changes: Any) -> Result:
        """Runs one more process to its end. `changes` are of the container's own `oci.Process`."""
        process = msgspec.structs.replace(self.bundle.spec.process, args=list(args), **changes)
        stdio, outputs = self._stdio(terminal=False)
        if self.expects_execs:
            self.expect_exec()
        try:
            made = self.backend.exec(self.bundle, process, stdio, self.pid)
        finally:
            _close(stdio)
        return _finish(made.pid, outputs)

    def expect_exec(self) -> set[int]:
        """Tells the backend of an exec to come; the processes that it gets ready. Whoever ends must be waited for."""
        before = self.processes()
        self.backend.expect_exec(self.bundle, self.pid)
        return self.processes() - before

    @staticmethod
    def processes() -> set[int]:
        """The children of this process, ended ones too that were not waited for."""
        own = os.getpid()
        return set(map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split()))

    @staticmethod
    def _stdio(*, terminal: bool) -> tuple[Stdio, list[int]]:
        if terminal:
            return Stdio(terminal=True), []
        out, err = os.pipe(), os.pipe()
        return Stdio(os.open(os.devnull, os.O_RDONLY), out[1], err[1]), [out[0], err[0]]


def _close(stdio: Stdio) -> None:
    for fd in (stdio.stdin, stdio.stdout, stdio.stderr):
        if fd is not None:
            os.close(fd)


def _finish(pid: int, outputs: Sequence[int]) -> Result:
    texts = dict.fromkeys(outputs, b"")
    left = set(outputs)
    while left:
        ready, _, _ = select.select(list(left), [], [], PATIENCE)
        assert ready, f"process {pid} neither writes nor ends"
        for fd in ready:
            chunk = os.read(fd, 65536)
            texts[fd] += chunk
            if not chunk:
                left.discard(fd)
                os.close(fd)
    out, err = [text.decode() for text in texts.values()] or ("", "")
    return Result(wait(pid), out, err)


def wait(pid: int) -> int:
    """The exit code of a child, 128 + n for signal n."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.002)


def make_busybox(directory: Path) -> None:
    """A minimal root file system: busybox, passwd and group, and files to fail with."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (directory / name).mkdir(parents=True)
    shutil.copy(_BUSYBOX, directory / "bin" / "busybox")
    for applet in _APPLETS.split():
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n")
    (directory / "etc" / "group").write_text("root:x:0:\nusers:x:1001:\nwheel:x:10:bob,alice\n")
    (directory / "etc" / "plain").write_text("not a program\n")
    (directory / "bin" / "garbled").write_text("neither ELF nor script\n")
    (directory / "bin" / "garbled").chmod(0o755)


def default_spec(rootfs: Path, container_id: str) -> oci.Spec:
    """A spec with everything that Docker's defaults ask for, but a network."""
    caps = list(capabilities.DEFAULT_CAPABILITIES)
    plain = ["nosuid", "noexec", "nodev"]
    host = host_info(rootfs, rootfs)
    mount = oci.Mount
    return oci.Spec(
        oci_version="1.0.2",
        process=oci.Process(
            args=["true"],
            env=["PATH=/usr/bin:/bin", "NAME=value"],
            capabilities=oci.Capabilities(bounding=caps, effective=caps, permitted=caps),
        ),
        root=oci.Root(path=str(rootfs)),
        hostname="sample",
        mounts=[
            mount(destination="/proc", type="proc", source="proc", options=plain),
            mount(
                destination="/dev",
                type="tmpfs",
                source="tmpfs",
                options=["nosuid", "strictatime", "mode=755", "size=65536k"],
            ),
            mount(
                destination="/dev/pts",
                type="devpts",
                source="devpts",
                options=["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount(destination="/sys", type="sysfs", source="sysfs", options=[*plain, "ro"]),
            mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=[*plain, "relatime", "ro"]),
            mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=plain),
            mount(destination="/dev/shm", type="tmpfs", source="shm", options=[*plain, "mode=1777", "size=64m"]),
        ],
        linux=oci.Linux(
            namespaces=[oci.Namespace(type=kind) for kind in ("mount", "network", "uts", "pid", "ipc", "cgroup")],
            cgroups_path=f"/hooper/{container_id}",
            resources=oci.Resources(
                devices=[
                    oci.DeviceRule(allow=False, access="rwm"),
                    oci.DeviceRule(allow=True, type="c", access="m"),
                    oci.DeviceRule(allow=True, type="b", access="m"),
                ]
            ),
            seccomp=packed_profile(tuple(caps), host.architecture, host.kernel),
            masked_paths=list(defaults.MASKED_PATHS),
            readonly_paths=list(defaults.READONLY_PATHS),
        ),
    )


def read_terminal(console: int) -> str:
    """All that is written to a terminal until its last slave is closed; closes the master."""
    text = b""
    while select.select([console], [], [], PATIENCE)[0]:
        try:
            chunk = os.read(console, 4096)
        except OSError:  # EIO: the last slave is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(console)
    return text.decode()
