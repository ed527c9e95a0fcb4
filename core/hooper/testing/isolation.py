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
import resource
import select
import signal
import struct
import termios
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from hooper.api import oci
from hooper.api.errors import StartFailed, Unsupported
from hooper.api.isolation import IsolationBackend, Stdio
from hooper.linux import capabilities
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import open_cgroup
from hooper.linux.host import host_info
from hooper.testing.isolation_sample import PATIENCE, Result, Sample, read_terminal, wait

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


def _until(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not so after {seconds} s"
        time.sleep(0.01)


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
        script = "echo x > /dev/null && dd if=/dev/zero bs=1 count=1 2>/dev/null | wc -c"
        script += "; readlink /dev/ptmx; readlink /dev/stdin; mknod /tmp/disk b 254 0 && cat /tmp/disk"
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
        assert (stats.memory_limit, stats.pids_limit) == (64 << 20, 20)
        # A runtime program's own threads may still be leaving.
        _until(lambda: sample.backend.stats(sample.bundle).pids == 1, "one process is counted")
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

    @in_monitor
    def test_a_kill_for_memory_is_known(self, sample: Sample) -> None:
        resources = sample.bundle.spec.linux.resources
        assert resources is not None
        resources.memory = oci.Memory(limit=16 << 20, swap=16 << 20)
        sample.start("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
        assert sample.finish().code == 128 + signal.SIGKILL
        assert sample.backend.oom_killed(sample.bundle)
        sample.backend.delete(sample.bundle)

    @in_monitor
    def test_resource_limits(self, sample: Sample) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        sample.bundle.spec.process.rlimits = [oci.Rlimit(type="RLIMIT_NOFILE", soft=100, hard=hard)]
        assert sample.run("sh", "-c", "ulimit -n; ulimit -Hn").stdout.split() == ["100", str(hard)]

    # --- namespaces ---

    @in_monitor
    def test_namespaces_of_the_host(self, sample: Sample) -> None:
        self._without(sample, "pid", "uts", "ipc", "cgroup", "network")
        sample.bundle.spec.hostname = ""
        found = sample.run("sh", "-c", "for n in pid uts ipc; do readlink /proc/self/ns/$n; done")
        assert found.stdout.split() == [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "uts", "ipc")]

    @in_monitor
    def test_a_namespace_is_joined_by_its_path(self, sample: Sample) -> None:
        sys.unshare(sys.CLONE_NEWIPC)
        self._without(sample, "ipc")
        sample.bundle.spec.linux.namespaces.append(oci.Namespace(type="ipc", path=f"/proc/{os.getpid()}/ns/ipc"))
        assert sample.run("readlink", "/proc/self/ns/ipc").stdout.strip() == os.readlink("/proc/self/ns/ipc")

    @in_monitor
    def test_the_given_network_namespace(self, sample: Sample) -> None:
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        sys.unshare(sys.CLONE_NEWNET)
        sample.bundle.netns = os.open("/proc/self/ns/net", os.O_RDONLY)
        expected = os.readlink("/proc/self/ns/net")
        sys.setns(own, sys.CLONE_NEWNET)
        assert sample.run("readlink", "/proc/self/ns/net").stdout.strip() == expected

    @in_monitor
    def test_sysctls(self, sample: Sample) -> None:
        sample.bundle.spec.linux.sysctl = {"kernel.shm_rmid_forced": "1"}
        assert sample.run("cat", "/proc/sys/kernel/shm_rmid_forced").stdout == "1\n"
        assert Path("/proc/sys/kernel/shm_rmid_forced").read_text() == "0\n"

    # --- init ---

    @in_monitor
    def test_an_init_forwards_signals_and_exit_codes(self, sample: Sample) -> None:
        sample.bundle.init = True
        try:
            sample.start("sh", "-c", "trap 'exit 9' TERM; echo $$; while :; do sleep 0.02; done")
        except Unsupported as error:
            pytest.skip(str(error))
        select.select([sample.outputs[0]], [], [], PATIENCE)
        sample.backend.signal(sample.bundle, sample.pid, signal.SIGTERM)
        found = sample.finish()
        assert (found.code, found.stdout != "1\n") == (9, True)
        sample.backend.delete(sample.bundle)

    @in_monitor
    def test_an_init_and_a_missing_program(self, sample: Sample) -> None:
        sample.bundle.init = True
        try:
            sample.start("/bin/nosuch")
            assert sample.finish().code == 127
        except Unsupported as error:
            pytest.skip(str(error))
        except StartFailed as error:
            assert error.exit_code == 127  # noqa: PT017  either is right
        sample.backend.delete(sample.bundle)

    # --- terminals, execs, signals ---

    @in_monitor
    def test_a_terminal(self, sample: Sample) -> None:
        process = sample.bundle.spec.process
        process.terminal, process.console_size = True, oci.ConsoleSize(height=33, width=99)
        sample.start("sh", "-c", "tty; stty size; test -c /dev/console && echo x > /dev/tty")
        assert sample.process is not None and sample.process.console is not None
        console = sample.process.console
        assert struct.unpack("4H", fcntl.ioctl(console, termios.TIOCGWINSZ, bytes(8)))[:2] == (33, 99)
        assert read_terminal(console) == "/dev/pts/0\r\n33 99\r\nx\r\n"
        assert sample.finish().code == 0
        sample.backend.delete(sample.bundle)

    @pytest.mark.parametrize("expected", [False, True])
    @in_monitor
    def test_exec(self, sample: Sample, expected: bool) -> None:
        sample.start("sleep", "100")
        sample.expects_execs = expected
        found = sample.exec("sh", "-c", "pwd; id -u; grep -E 'Seccomp:|CapEff' /proc/self/status; exit 3", cwd="/etc")
        assert found.code == 3
        effective = f"{capabilities.mask(capabilities.DEFAULT_CAPABILITIES):016x}"
        assert found.stdout == f"/etc\n0\nCapEff:\t{effective}\nSeccomp:\t2\n"
        assert "sleep" in sample.exec("cat", "/proc/1/cmdline").stdout
        assert sample.exec("id", "-u", user=oci.User(username="alice")).stdout == "1000\n"
        self._end(sample)

    @pytest.mark.parametrize("expected", [False, True])
    @in_monitor
    def test_exec_that_fails(self, sample: Sample, expected: bool) -> None:
        sample.start("sleep", "100")
        sample.expects_execs = expected
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

    @pytest.mark.parametrize("expected", [False, True])
    @in_monitor
    def test_exec_with_a_terminal(self, sample: Sample, expected: bool) -> None:
        sample.start("sleep", "100")
        if expected:
            sample.backend.expect_exec(sample.bundle, sample.pid)
        process = msgspec.structs.replace(sample.bundle.spec.process, args=["tty"], terminal=True)
        made = sample.backend.exec(sample.bundle, process, Stdio(terminal=True), sample.pid)
        assert made.console is not None
        assert read_terminal(made.console) == "/dev/pts/0\r\n"
        assert wait(made.pid) == 0
        self._end(sample)

    @in_monitor
    def test_an_exec_with_a_long_environment(self, sample: Sample) -> None:
        sample.start("sleep", "100")
        ready = sample.expect_exec()
        env = [*(sample.bundle.spec.process.env or ()), *(f"N{number}={'x' * 1000}" for number in range(100))]
        assert sample.exec("sh", "-c", "echo ${#N99}", env=env).stdout == "1000\n"
        assert [wait(pid) for pid in ready] in ([], [0])
        self._end(sample)

    @in_monitor
    def test_execs_in_a_row(self, sample: Sample) -> None:
        sample.start("sleep", "100")
        sample.expects_execs = True
        for number in range(5):
            user = oci.User(username="alice") if number % 2 else oci.User()
            found = sample.exec("sh", "-c", f"id -u; pwd; exit {number}", user=user, cwd="/etc" if number % 3 else "/")
            assert found == Result(number, f"{1000 if number % 2 else 0}\n{'/etc' if number % 3 else '/'}\n", "")
        with pytest.raises(StartFailed):
            sample.exec("nosuch")
        assert sample.backend.processes(sample.bundle) == [sample.pid]
        self._end(sample)

    @in_monitor
    def test_an_expected_exec_that_does_not_come(self, sample: Sample) -> None:
        sample.start("sleep", "100")
        ready = sample.expect_exec()
        assert not sample.expect_exec()
        assert sample.backend.processes(sample.bundle) == [sample.pid]
        sample.backend.forget_exec(sample.bundle)
        assert [wait(pid) for pid in ready] in ([], [0])
        sample.backend.forget_exec(sample.bundle)
        assert sample.exec("sh", "-c", "echo there").stdout == "there\n"
        self._end(sample)

    @in_monitor
    def test_an_expected_exec_whose_process_the_container_kills(self, sample: Sample) -> None:
        kill = "kill -9 -1; : > /tmp/killed; exec sleep 100"
        sample.start("sh", "-c", f"trap '{kill}' TERM; echo ready; while :; do sleep 0.02; done")
        select.select([sample.outputs[0]], [], [], PATIENCE)
        ready = sample.expect_exec()
        sample.backend.signal(sample.bundle, sample.pid, signal.SIGTERM)
        _until((sample.image / "tmp" / "killed").exists, "all are killed")
        assert [wait(pid) for pid in ready] in ([], [128 + signal.SIGKILL])
        assert sample.exec("sh", "-c", "echo there").stdout == "there\n"
        self._end(sample)

    @in_monitor
    def test_pause_and_resume(self, sample: Sample) -> None:
        sample.start("sh", "-c", "while :; do :; done")
        sample.backend.pause(sample.bundle)
        before = sample.backend.stats(sample.bundle).cpu_usage
        time.sleep(0.1)
        assert sample.backend.stats(sample.bundle).cpu_usage - before < 20_000_000
        sample.backend.resume(sample.bundle)
        _until(lambda: sample.backend.stats(sample.bundle).cpu_usage - before > 20_000_000, "it runs again")
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
        select.select([sample.outputs[0]], [], [], PATIENCE)
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
    def test_a_monitor_may_have_another_container(self, sample: Sample) -> None:
        before = os.listdir("/proc/self/fd")
        sample.start("sleep", "100")
        assert sample.exec("sh", "-c", "echo one").stdout == "one\n"
        sample.backend.signal(sample.bundle, sample.pid, signal.SIGKILL)
        sample.finish()
        sample.backend.delete(sample.bundle)
        assert os.listdir("/proc/self/fd") == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        assert sample.run("sh", "-c", "echo two").stdout == "two\n"
        assert os.listdir("/proc/self/fd") == before

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
    def _without(sample: Sample, *kinds: str) -> None:
        linux = sample.bundle.spec.linux
        linux.namespaces = [each for each in linux.namespaces if each.type not in kinds]

    @staticmethod
    def _end(sample: Sample) -> None:
        sample.backend.forget_exec(sample.bundle)
        for pid in sample.processes() - {sample.pid}:
            wait(pid)  # as a monitor does: the first process of a pid namespace ends when all others are waited for
        sample.backend.signal(sample.bundle, sample.pid, signal.SIGKILL)
        assert sample.finish().code == 128 + signal.SIGKILL
        sample.backend.delete(sample.bundle)
