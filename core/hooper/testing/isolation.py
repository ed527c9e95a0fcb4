"""The conformance suite of isolation backends.

Subclass it in a test module and give the backend; the tests need root and a static busybox:

    class TestMine(IsolationConformance):
        @pytest.fixture
        def backend(self):
            return MyBackend("mine", None)

Each test runs in a forked process that stands for the container's monitor: single-threaded, a subreaper,
free to change its namespaces.
"""

from __future__ import annotations

import fcntl
import functools
import os
import select
import shutil
import signal
import struct
import termios
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from hooper.api import oci
from hooper.api.errors import StartFailed
from hooper.api.isolation import Bundle, IsolationBackend, Process, Stdio
from hooper.api.storage import Mount
from hooper.linux import capabilities, defaults
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import open_cgroup
from hooper.linux.host import host_info
from hooper.linux.seccomp_default import default_profile

_BUSYBOX = "/bin/busybox"
_APPLETS = "true false sh cat id env pwd ls mknod dd sleep kill hostname tty stty mount readlink grep wc test".split()
_PATIENCE = 20.0

Test = TypeVar("Test", bound=Callable[..., None])


def in_monitor(test: Test) -> Test:
    """Runs a test in a forked process, and fails here with what failed there."""

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            text = _outcome(lambda: test(*args, **kwargs))
            os.write(write, text.encode()[:60000])
            os._exit(0)
        os.close(write)
        report = b""
        while chunk := os.read(read, 65536):
            report += chunk
        os.close(read)
        _, status = os.waitpid(pid, 0)
        if report or status:
            pytest.fail(report.decode() or f"the monitor died with status {status}", pytrace=False)

    return wrapper  # type: ignore[return-value]


def _outcome(test: Callable[[], None]) -> str:
    sys.prctl(sys.PR_SET_CHILD_SUBREAPER, 1)
    try:
        test()
    except BaseException:
        return traceback.format_exc()
    return ""


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
        self._outputs: list[int] = []

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def create(self, *args: str) -> None:
        """Creates the container with these arguments; a terminal if the spec has one."""
        self.bundle.spec.process.args = list(args)
        stdio, self._outputs = self._stdio(terminal=self.bundle.spec.process.terminal)
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
        return _finish(self.pid, self._outputs)

    def exec(self, *args: str, **changes: Any) -> Result:
        """Runs one more process to its end. `changes` are of the container's own `oci.Process`."""
        process = msgspec.structs.replace(self.bundle.spec.process, args=list(args), **changes)
        stdio, outputs = self._stdio(terminal=False)
        try:
            made = self.backend.exec(self.bundle, process, stdio, self.pid)
        finally:
            _close(stdio)
        return _finish(made.pid, outputs)

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
    texts = {fd: b"" for fd in outputs}
    left = set(outputs)
    while left:
        ready, _, _ = select.select(list(left), [], [], _PATIENCE)
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
    deadline = time.monotonic() + _PATIENCE
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
    for applet in _APPLETS:
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
            seccomp=default_profile(caps, host.architecture, host.kernel),
            masked_paths=list(defaults.MASKED_PATHS),
            readonly_paths=list(defaults.READONLY_PATHS),
        ),
    )


class IsolationConformance:
    """What every isolation backend must do; see the module."""

    @pytest.fixture
    def backend(self) -> IsolationBackend:
        """The backend under test: the subclass gives it."""
        pytest.skip("a subclass gives the backend")

    @pytest.fixture
    def sample(self, backend: IsolationBackend, tmp_path: Path) -> Iterator[Sample]:
        """A container that is not yet created."""
        backend.preload(host_info(tmp_path, tmp_path))
        sample = Sample(backend, tmp_path)
        yield sample
        open_cgroup(sample.bundle.spec.linux.cgroups_path).remove()

    # --- programs and how they end ---

    @in_monitor
    def test_it_runs_a_program(self, sample: Sample) -> None:
        assert sample.run("sh", "-c", "cat /etc/plain; cat /nowhere") == Result(
            1, "not a program\n", "cat: can't open '/nowhere': No such file or directory\n"
        )

    @in_monitor
    def test_exit_codes_and_signals_come_through(self, sample: Sample) -> None:
        assert sample.run("sh", "-c", "exit 42").code == 42

    @in_monitor
    def test_nothing_runs_before_start(self, sample: Sample) -> None:
        sample.create("sh", "-c", "cat /etc/plain > /tmp/ran")
        time.sleep(0.05)
        assert not (sample.image / "tmp" / "ran").exists()
        assert sample.process is not None
        sample.backend.start(sample.bundle, sample.process)
        assert sample.finish().code == 0
        assert (sample.image / "tmp" / "ran").exists()
        sample.backend.delete(sample.bundle)

    @pytest.mark.parametrize(
        ("program", "code", "why"),
        [
            ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
            ("/bin/nosuch", 127, 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
            ("/etc/plain", 126, 'exec: "/etc/plain": permission denied'),
        ],
    )
    @in_monitor
    def test_a_program_that_cannot_be_executed(self, sample: Sample, program: str, code: int, why: str) -> None:
        with pytest.raises(StartFailed) as raised:
            sample.run(program)
        assert (raised.value.exit_code, raised.value.why) == (code, why)

    @in_monitor
    def test_created_and_never_started(self, sample: Sample) -> None:
        sample.create("true")
        sample.backend.delete(sample.bundle)
        assert sample.backend.processes(sample.bundle) == []
        wait(sample.pid)

    # --- who and where ---

    @in_monitor
    def test_a_user_by_name(self, sample: Sample) -> None:
        sample.bundle.spec.process.user = oci.User(username="alice", additional_gids=[77])
        found = sample.run("sh", "-c", "id; echo $HOME; grep Cap[EP] /proc/self/status; echo hi > /dev/stderr")
        assert "uid=1000(alice) gid=1001(users)" in found.stdout
        assert "10(wheel)" in found.stdout
        assert "77" in found.stdout
        assert "/home/alice" in found.stdout
        assert "CapEff:\t0000000000000000" in found.stdout
        assert found.stderr == "hi\n"

    @in_monitor
    def test_a_user_without_entry(self, sample: Sample) -> None:
        sample.bundle.spec.process.user = oci.User(username="nobody")
        with pytest.raises(StartFailed) as raised:
            sample.run("true")
        assert raised.value.what == "unable to find user nobody"
        assert raised.value.why == "no matching entries in passwd file"

    @in_monitor
    def test_numbers_need_no_entry(self, sample: Sample) -> None:
        sample.bundle.spec.process.user = oci.User(username="4242:4343")
        assert sample.run("id").stdout.split()[:2] == ["uid=4242", "gid=4343"]

    @in_monitor
    def test_environment_and_working_directory(self, sample: Sample) -> None:
        sample.bundle.spec.process.cwd = "/made/for/it"
        found = sample.run("sh", "-c", "pwd; echo $NAME; echo $HOME; hostname")
        assert found.stdout == "/made/for/it\nvalue\n/root\nsample\n"

    # --- what is kept from it ---

    @in_monitor
    def test_masked_and_read_only_paths(self, sample: Sample) -> None:
        script = "wc -c < /proc/keys; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/printk"
        found = sample.run("sh", "-c", script)
        assert found.stdout.split() == ["0", "0"]
        assert "Read-only file system" in found.stderr

    @in_monitor
    def test_only_the_given_capabilities(self, sample: Sample) -> None:
        found = sample.run("sh", "-c", "grep -E 'Cap(Eff|Bnd|Prm|Amb)|Seccomp:|NoNew' /proc/self/status")
        status = dict(line.split(":\t") for line in found.stdout.splitlines())
        assert int(status["CapEff"], 16) == capabilities.mask(capabilities.DEFAULT_CAPABILITIES)
        assert status["CapBnd"] == status["CapPrm"] == status["CapEff"]
        assert int(status["CapAmb"], 16) == 0
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")

    @in_monitor
    def test_no_new_privileges_and_a_filter_for_a_user(self, sample: Sample) -> None:
        sample.bundle.spec.process.user = oci.User(username="alice")
        sample.bundle.spec.process.no_new_privileges = True
        found = sample.run("grep", "-E", "Seccomp:|NoNew", "/proc/self/status")
        assert found.stdout == "NoNewPrivs:\t1\nSeccomp:\t2\n"

    @in_monitor
    def test_filtered_calls_fail(self, sample: Sample) -> None:
        caps = [*capabilities.DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"]
        sample.bundle.spec.process.capabilities = oci.Capabilities(bounding=caps, effective=caps, permitted=caps)
        # The profile is still the one for containers without CAP_SYS_ADMIN.
        found = sample.run("mount", "-t", "tmpfs", "tmpfs", "/tmp")
        assert found.code != 0
        assert "not permitted" in found.stderr or "denied" in found.stderr

    @in_monitor
    def test_the_hosts_files_are_out_of_reach(self, sample: Sample) -> None:
        found = sample.run("sh", "-c", "ls /..; cat /proc/self/mountinfo")
        assert "image" not in found.stdout.split("\n")
        assert str(sample.bundle.directory) not in found.stdout

    @in_monitor
    def test_devices(self, sample: Sample) -> None:
        script = "echo x > /dev/null && dd if=/dev/zero bs=1 count=1 2>/dev/null | wc -c; readlink /dev/ptmx; readlink /dev/stdin"
        script += "; mknod /tmp/disk b 254 0 && cat /tmp/disk"
        found = sample.run("sh", "-c", script)
        assert found.stdout == "1\npts/ptmx\n/proc/self/fd/0\n"
        assert "Operation not permitted" in found.stderr

    @in_monitor
    def test_a_read_only_root(self, sample: Sample) -> None:
        sample.bundle.spec.root.readonly = True
        found = sample.run("sh", "-c", "echo x > /file; echo x > /dev/shm/file")
        assert found.stderr == "sh: can't create /file: Read-only file system\n"

    @in_monitor
    def test_volumes(self, sample: Sample) -> None:
        volume = sample.image.parent / "volume"
        volume.mkdir()
        (volume / "file").write_text("kept\n")
        (sample.image / "trap").symlink_to("/etc")
        sample.bundle.spec.mounts += [
            oci.Mount(destination="/data/rw", type="bind", source=str(volume), options=["rbind", "rprivate"]),
            oci.Mount(destination="/data/ro", type="bind", source=str(volume), options=["rbind", "rprivate", "ro"]),
            oci.Mount(destination="/trap/one", type="bind", source=str(volume / "file"), options=["rbind"]),
        ]
        found = sample.run("sh", "-c", "cat /etc/one; echo new > /data/rw/made; echo no > /data/ro/made")
        assert found.stdout == "kept\n"
        assert "Read-only file system" in found.stderr
        assert (volume / "made").read_text() == "new\n"
        assert not os.path.exists("/etc/one")

    # --- limits ---

    @in_monitor
    def test_limits_are_written_and_reported(self, sample: Sample) -> None:
        resources = sample.bundle.spec.linux.resources
        assert resources is not None
        resources.memory = oci.Memory(limit=64 << 20)
        resources.pids = oci.Pids(limit=20)
        resources.cpu = oci.CPU(shares=512, quota=50000, period=100000)
        sample.start("sleep", "100")
        stats = sample.backend.stats(sample.bundle)
        assert (stats.memory_limit, stats.pids_limit) in ((64 << 20, 20), (None, 20))
        assert stats.pids == 1
        sample.backend.update(sample.bundle, oci.Resources(pids=oci.Pids(limit=30)))
        assert sample.backend.stats(sample.bundle).pids_limit == 30
        self._end(sample)

    @in_monitor
    def test_the_number_of_processes_is_limited(self, sample: Sample) -> None:
        resources = sample.bundle.spec.linux.resources
        assert resources is not None
        resources.pids = oci.Pids(limit=4)
        found = sample.run("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait")
        assert "can't fork" in found.stderr

    # --- terminals, execs, signals ---

    @in_monitor
    def test_a_terminal(self, sample: Sample) -> None:
        process = sample.bundle.spec.process
        process.terminal, process.console_size = True, oci.ConsoleSize(height=33, width=99)
        sample.start("sh", "-c", "tty; stty size; test -c /dev/console && echo x > /dev/tty")
        assert sample.process is not None and sample.process.console is not None
        console = sample.process.console
        assert struct.unpack("4H", fcntl.ioctl(console, termios.TIOCGWINSZ, bytes(8)))[:2] == (33, 99)
        assert _read_terminal(console) == "/dev/pts/0\r\n33 99\r\nx\r\n"
        assert sample.finish().code == 0
        sample.backend.delete(sample.bundle)

    @in_monitor
    def test_exec(self, sample: Sample) -> None:
        sample.start("sleep", "100")
        found = sample.exec("sh", "-c", "pwd; id -u; grep -E 'Seccomp:|CapEff' /proc/self/status; exit 3", cwd="/etc")
        assert found.code == 3
        effective = f"{capabilities.mask(capabilities.DEFAULT_CAPABILITIES):016x}"
        assert found.stdout == f"/etc\n0\nCapEff:\t{effective}\nSeccomp:\t2\n"
        assert "sleep" in sample.exec("cat", "/proc/1/cmdline").stdout
        assert sample.exec("id", "-u", user=oci.User(username="alice")).stdout == "1000\n"
        self._end(sample)

    @in_monitor
    def test_exec_that_fails(self, sample: Sample) -> None:
        sample.start("sleep", "100")
        with pytest.raises(StartFailed) as raised:
            sample.exec("nosuch")
        assert (raised.value.exit_code, raised.value.why) == (
            127,
            'exec: "nosuch": executable file not found in $PATH',
        )
        with pytest.raises(StartFailed) as raised:
            sample.exec("/etc/plain")
        assert raised.value.exit_code == 126
        assert sample.backend.processes(sample.bundle) == [sample.pid]
        self._end(sample)

    @in_monitor
    def test_exec_with_a_terminal(self, sample: Sample) -> None:
        sample.start("sleep", "100")
        process = msgspec.structs.replace(sample.bundle.spec.process, args=["tty"], terminal=True)
        made = sample.backend.exec(sample.bundle, process, Stdio(terminal=True), sample.pid)
        assert made.console is not None
        assert _read_terminal(made.console) == "/dev/pts/0\r\n"
        assert wait(made.pid) == 0
        self._end(sample)

    @in_monitor
    def test_pause_and_resume(self, sample: Sample) -> None:
        sample.start("sh", "-c", "while :; do :; done")
        sample.backend.pause(sample.bundle)
        before = sample.backend.stats(sample.bundle).cpu_usage
        time.sleep(0.1)
        assert sample.backend.stats(sample.bundle).cpu_usage - before < 20_000_000
        sample.backend.resume(sample.bundle)
        time.sleep(0.1)
        assert sample.backend.stats(sample.bundle).cpu_usage - before > 20_000_000
        self._end(sample)

    @in_monitor
    def test_a_paused_container_can_be_deleted(self, sample: Sample) -> None:
        sample.start("sleep", "100")
        sample.backend.pause(sample.bundle)
        sample.backend.delete(sample.bundle)
        assert wait(sample.pid) == 128 + signal.SIGKILL

    @in_monitor
    def test_signals(self, sample: Sample) -> None:
        sample.start("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done")
        select.select([sample._outputs[0]], [], [], _PATIENCE)
        sample.backend.signal(sample.bundle, sample.pid, signal.SIGTERM)
        assert sample.finish().code == 7
        sample.backend.signal(sample.bundle, sample.pid, signal.SIGTERM)
        sample.backend.delete(sample.bundle)

    # --- what is left ---

    @in_monitor
    def test_delete_leaves_nothing(self, sample: Sample) -> None:
        sample.start("sh", "-c", "sleep 100 & sleep 100")
        sample.backend.delete(sample.bundle)
        wait(sample.pid)
        assert open_cgroup(sample.bundle.spec.linux.cgroups_path).directories() == {}
        assert sample.backend.processes(sample.bundle) == []
        with open(f"/proc/{os.getppid()}/mountinfo") as file:
            assert str(sample.bundle.directory) not in file.read()
        assert list((sample.bundle.directory / "rootfs").iterdir()) == []
        sample.backend.delete(sample.bundle)

    @in_monitor
    def test_a_failed_create_leaves_nothing(self, sample: Sample) -> None:
        sample.bundle.spec.mounts.append(oci.Mount(destination="/x", type="bind", source="/nowhere", options=["bind"]))
        with pytest.raises(StartFailed) as raised:
            sample.create("true")
        assert "/nowhere" in raised.value.why and "no such file or directory" in raised.value.why
        assert open_cgroup(sample.bundle.spec.linux.cgroups_path).directories() == {}
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    @staticmethod
    def _end(sample: Sample) -> None:
        sample.backend.signal(sample.bundle, sample.pid, signal.SIGKILL)
        assert sample.finish().code == 128 + signal.SIGKILL
        sample.backend.delete(sample.bundle)


def _read_terminal(console: int) -> str:
    text = b""
    while select.select([console], [], [], _PATIENCE)[0]:
        try:
            chunk = os.read(console, 4096)
        except OSError:  # EIO: the last slave is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(console)
    return text.decode()
