"""What the namespaces backend can do beyond the conformance suite."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooper.api import oci
from hooper.api.errors import Conflict, Internal
from hooper.api.isolation import IsolationBackend, Process
from hooper.linux import capabilities, syscalls
from hooper.linux.cgroups import open_cgroup
from hooper.linux.host import host_info
from hooper.testing.isolation import in_monitor
from hooper.testing.isolation_sample import PATIENCE, Sample, wait
from hooper_isolation_namespaces import backend
from hooper_isolation_namespaces.backend import NamespacesBackend

pytestmark = pytest.mark.root


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    made: IsolationBackend = NamespacesBackend("namespaces", None)
    made.preload(host_info(tmp_path, tmp_path))
    sample = Sample(made, tmp_path)
    yield sample
    open_cgroup(sample.bundle.spec.linux.cgroups_path).remove()


@in_monitor
def test_a_user_namespace(sample: Sample) -> None:
    base = 100_000
    linux = sample.bundle.spec.linux
    linux.namespaces.append(oci.Namespace(type="user"))
    linux.uid_mappings = linux.gid_mappings = [oci.IDMapping(container_id=0, host_id=base, size=65536)]
    for place in (sample.image, sample.image / "tmp"):
        os.chown(place, base, base)
    for place in (sample.image.parents[0], sample.image.parents[1], sample.image.parents[2]):
        place.chmod(0o711)
    sample.start("sh", "-c", "cat /proc/self/uid_map; id -u; echo x > /dev/null && echo y > /tmp/mine; sleep 100")
    for _ in range(1000):
        if (sample.image / "tmp" / "mine").exists():
            break
        time.sleep(0.01)
    assert (sample.image / "tmp" / "mine").stat().st_uid == base
    assert sample.exec("id", "-u").stdout == "0\n"
    assert sample.exec("sh", "-c", "cat /proc/1/cmdline").stdout == "sleep\x00100\x00"
    assert os.readlink(f"/proc/{sample.pid}/ns/user") != os.readlink("/proc/self/ns/user")
    sample.backend.delete(sample.bundle)
    found = sample.finish()
    assert found.stdout.split()[:4] == ["0", str(base), "65536", "0"]
    assert open_cgroup(linux.cgroups_path).directories() == {}


@in_monitor
def test_shared_propagation_reaches_the_host_and_nothing_else_does(sample: Sample) -> None:
    from hooper.linux import syscalls as sys
    from hooper.linux.mounts import set_propagation

    volume = sample.image.parent / "volume"
    volume.mkdir()
    sys.unshare(sys.CLONE_NEWNS)
    set_propagation("/", "rprivate")
    sys.mount("tmpfs", str(volume), "tmpfs")
    (volume / "below").mkdir()
    set_propagation(str(volume), "shared")
    sample.bundle.spec.mounts.append(
        oci.Mount(destination="/volume", type="bind", source=str(volume), options=["rbind", "rshared"])
    )
    caps = ["CAP_SYS_ADMIN"]
    sample.bundle.spec.process.capabilities = oci.Capabilities(bounding=caps, effective=caps, permitted=caps)
    sample.bundle.spec.linux.seccomp = b""
    found = sample.run("mount", "-t", "tmpfs", "inner", "/volume/below")
    assert found.code == 0, found.stderr
    with open("/proc/self/mountinfo") as file:
        lines = file.read()
    assert f"{volume}/below" in lines
    assert str(sample.bundle.directory) not in lines


@in_monitor
def test_extra_devices(sample: Sample) -> None:
    sample.bundle.spec.linux.devices = [
        oci.Device(path="/dev/deep/zero", type="c", major=1, minor=5, file_mode=0o600, uid=3, gid=4)
    ]
    found = sample.run("sh", "-c", "ls -ln /dev/deep/zero; dd if=/dev/deep/zero bs=1 count=2 2>/dev/null | wc -c")
    assert found.stdout.split()[:6] == ["crw-------", "1", "3", "4", "1,", "5"]
    assert found.stdout.split()[-1] == "2"


@in_monitor
def test_ambient_capabilities(sample: Sample) -> None:
    caps = ["CAP_CHOWN"]
    sample.bundle.spec.process.capabilities = oci.Capabilities(
        bounding=caps, effective=caps, permitted=caps, inheritable=caps, ambient=caps
    )
    sample.bundle.spec.process.user = oci.User(username="alice")
    found = sample.run("grep", "-E", "Cap(Eff|Amb)", "/proc/self/status")
    assert found.stdout.split()[1::2] == ["0000000000000001"] * 2


@in_monitor
def test_no_descriptor_of_the_monitor_gets_in(sample: Sample) -> None:
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    assert sample.run("ls", "/proc/self/fd").stdout.split() == ["0", "1", "2", "3"]


@in_monitor
def test_start_without_create(sample: Sample) -> None:
    with pytest.raises(Internal):
        sample.backend.start(sample.bundle, Process(1))


@in_monitor
def test_ignored_signals_are_default_in_the_program(sample: Sample) -> None:
    ignore = (1).to_bytes(8, sys.byteorder).ljust(64, b"\0")
    for number in (32, 33):  # the C library's own: as a process has them that it has spawned
        ctypes.CDLL(None).syscall(syscalls._RT_SIGACTION, number, ctypes.c_char_p(ignore), None, ctypes.c_size_t(8))
    with open("/proc/self/status") as file:
        assert int(file.read().split("SigIgn:")[1].split()[0], 16) >> 31 == 3
    found = sample.run("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    assert found.stdout.split()[1::2] == ["0000000000000000"] * 2


_TRACING = [*capabilities.DEFAULT_CAPABILITIES, "CAP_SYS_PTRACE"]


@pytest.mark.parametrize(
    ("caps", "resources", "waits"),
    [
        (capabilities.DEFAULT_CAPABILITIES, oci.Resources(), True),
        (_TRACING, oci.Resources(), False),
        (capabilities.DEFAULT_CAPABILITIES, oci.Resources(pids=oci.Pids(limit=10)), False),
        (capabilities.DEFAULT_CAPABILITIES, oci.Resources(memory=oci.Memory(limit=32 << 20)), False),
    ],
    ids=["as usual", "may trace", "few processes", "little memory"],
)
@in_monitor
def test_a_process_waits_for_an_exec_where_it_does_no_harm(
    sample: Sample, caps: list[str], resources: oci.Resources, waits: bool
) -> None:
    sample.bundle.spec.process.capabilities = oci.Capabilities(bounding=caps, effective=caps, permitted=caps)
    sample.bundle.spec.linux.resources = resources
    sample.start("sleep", "100")
    assert len(sample.expect_exec()) == int(waits)
    assert sample.exec("sh", "-c", "echo there").stdout == "there\n"
    sample.backend.delete(sample.bundle)


@in_monitor
def test_an_exec_that_the_container_stops_is_not_waited_for_for_ever(sample: Sample) -> None:
    backend.PATIENCE_S = 0.5  # in this process, which is the test's own
    stop = "kill -STOP -1; exec sleep 100"
    sample.start("sh", "-c", f"trap '{stop}' TERM; echo ready; while :; do sleep 0.02; done")
    select.select([sample.outputs[0]], [], [], PATIENCE)
    (waiting,) = sample.expect_exec()
    sample.backend.signal(sample.bundle, sample.pid, signal.SIGTERM)
    os.waitid(os.P_PID, waiting, os.WSTOPPED | os.WNOWAIT)
    with pytest.raises(Conflict, match="did not come to run"):
        sample.exec("true")
    assert wait(waiting) == 128 + signal.SIGKILL
    assert sample.exec("sh", "-c", "echo there").stdout == "there\n"
    sample.backend.delete(sample.bundle)
