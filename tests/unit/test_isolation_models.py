"""Scripts of containers: one that is made of a model is the one that would have been written."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooper.api import oci
from hooper.api.isolation import Bundle
from hooper.api.storage import Mount
from hooper.linux import capabilities
from hooper.linux.cgroups import Cgroup, Layout, Order
from hooper.linux.cgroups_v1 import LegacyCgroup
from hooper.linux.script import NUMBERS
from hooper_isolation_namespaces import drafting, drafting_files, models

MACHINE = platform.machine()
pytestmark = pytest.mark.skipif(MACHINE not in NUMBERS, reason="there are no scripts for this machine")
LAST = 40
ids = st.text("0123456789abcdef", min_size=64, max_size=64)


@pytest.fixture(autouse=True)
def _cgroups_v1(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {name: f"/cg/{name}" for name in ("memory", "cpu", "devices", "pids")}
    for module in ("cgroups", "cgroups_v1"):
        monkeypatch.setattr(f"hooper.linux.{module}.layout", lambda: Layout("", points))
    monkeypatch.setattr(drafting_files, "cgroup_layout", lambda: Layout("", points))
    models._models.clear()


def bundle_of(container: str, **changes: object) -> Bundle:
    root = f"/run/h/{container}/rootfs"
    caps = list(capabilities.DEFAULT_CAPABILITIES)
    spec = oci.Spec(
        oci_version="1.0.2",
        process=oci.Process(
            args=["sh", "-c", "exit 3"],
            env=["PATH=/usr/bin:/bin", f"HOSTNAME={container[:12]}"],
            capabilities=oci.Capabilities(bounding=caps, effective=caps, permitted=caps),
        ),
        root=oci.Root(path=root),
        hostname=container[:12],
        mounts=[
            oci.Mount(destination="/proc", type="proc", source="proc", options=["nosuid"]),
            oci.Mount(destination="/dev", type="tmpfs", source="tmpfs", options=["mode=755"]),
            oci.Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=["ro"]),
            oci.Mount(
                destination="/etc/hosts", type="bind", source=f"/data/{container}/hosts", options=["rbind", "rprivate"]
            ),
        ],
        linux=oci.Linux(
            cgroups_path=f"/hooper/{container}",
            namespaces=[oci.Namespace(type=kind) for kind in ("pid", "mount", "uts", "ipc", "network", "cgroup")],
            resources=oci.Resources(devices=[oci.DeviceRule(allow=False, access="rwm")]),
            masked_paths=["/proc/keys"],
            readonly_paths=["/proc/bus"],
        ),
    )
    bundle = Bundle(
        id=container,
        directory=Path(f"/run/h/{container}"),
        spec=spec,
        rootfs=(Mount("overlay", "overlay", (f"lowerdir=/s/{len(container)}", f"upperdir=/s/{container[:3]}")),),
    )
    for name, value in changes.items():
        setattr(bundle, name, value)
    return bundle


def cgroup_of(bundle: Bundle) -> Cgroup:
    return LegacyCgroup(bundle.spec.linux.cgroups_path)


@given(first=ids, second=ids)
def test_a_copy_is_what_would_have_been_written(first: str, second: str) -> None:
    models._models.clear()
    for container in (first, second):
        bundle = bundle_of(container)
        found = models.draft(bundle, cgroup_of(bundle), LAST)
        assert found == drafting.draft(bundle, cgroup_of(bundle), MACHINE, LAST)
    assert len(models._models) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda bundle: bundle.spec.process.args.append("more"),
        lambda bundle: bundle.spec.process.env.append("A=b"),
        lambda bundle: setattr(bundle.spec.process, "cwd", "/tmp"),
        lambda bundle: setattr(bundle.spec, "hostname", "named"),
        lambda bundle: setattr(bundle.spec.root, "readonly", True),
        lambda bundle: bundle.spec.mounts.pop(),
        lambda bundle: bundle.spec.linux.masked_paths.clear(),
        lambda bundle: setattr(bundle.spec.linux, "cgroups_path", f"/other/{bundle.id}"),
        lambda bundle: setattr(bundle.spec.linux.resources, "pids", oci.Pids(limit=5)),
        lambda bundle: setattr(bundle.spec.process.capabilities, "bounding", ["CAP_CHOWN"]),
        lambda bundle: setattr(bundle, "rootfs", (Mount("bind", "/s/1", ("rbind",)),)),
        lambda bundle: bundle.spec.process.rlimits.append(oci.Rlimit(type="RLIMIT_NOFILE", soft=5, hard=9)),
    ],
)
def test_whatever_differs_is_written_anew(change: Callable[[Bundle], object]) -> None:
    plain, changed = bundle_of("a" * 64), bundle_of("b" * 64)
    change(changed)
    models.draft(plain, cgroup_of(plain), LAST)
    found = models.draft(changed, cgroup_of(changed), LAST)
    assert found == drafting.draft(changed, cgroup_of(changed), MACHINE, LAST)
    assert len(models._models) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda bundle: setattr(bundle, "init", True),
        lambda bundle: setattr(bundle.spec.process, "terminal", True),
        lambda bundle: setattr(bundle.spec.process, "args", []),
        lambda bundle: setattr(bundle.spec.linux, "rootfs_propagation", "shared"),
        lambda bundle: setattr(bundle.spec.linux, "namespaces", []),
        lambda bundle: setattr(
            bundle.spec.linux,
            "namespaces",
            [oci.Namespace(type="pid", path="/proc/1/ns/pid"), oci.Namespace(type="mount")],
        ),
        lambda bundle: bundle.spec.linux.namespaces.append(oci.Namespace(type="user")),
        lambda bundle: bundle.spec.linux.devices.append(oci.Device(path="/dev/fuse", type="c", major=10, minor=229)),
        lambda bundle: setattr(bundle.spec.linux.resources, "memory", oci.Memory(limit=6 << 20)),
        lambda bundle: bundle.spec.mounts[3].options.append("rshared"),
        lambda bundle: bundle.spec.process.rlimits.append(oci.Rlimit(type="RLIMIT_UNHEARD", soft=5, hard=9)),
        lambda bundle: setattr(bundle, "rootfs", ()),
    ],
)
def test_the_unusual_has_no_script(change: Callable[[Bundle], object]) -> None:
    bundle = bundle_of("a" * 64)
    change(bundle)
    for _ in range(2):
        with pytest.raises(drafting_files.Unusual):
            models.draft(bundle, cgroup_of(bundle), LAST)


@pytest.mark.parametrize("mount", [Mount("zfs", "tank", ()), Mount("overlay", "overlay", ("x" * 5000,))])
def test_a_snapshot_that_no_script_can_mount(mount: Mount) -> None:
    with pytest.raises(drafting_files.Unusual):
        drafting.root_texts([mount])


def test_directories_of_the_snapshot_come_separately() -> None:
    bundle = bundle_of("a" * 64)
    assert drafting.root_texts(bundle.rootfs) == {"root 0": b"lowerdir=/s/64,upperdir=/s/aaa\0"}


def test_orders_are_what_create_and_apply_do() -> None:
    cgroup = LegacyCgroup("/hooper/c")
    resources = oci.Resources(devices=[oci.DeviceRule(allow=True, access="rwm")], pids=oci.Pids(limit=7))
    assert cgroup.orders(resources) == [
        *(Order(f"/cg/{name}/hooper/c") for name in ("memory", "cpu", "devices", "pids")),
        Order("/cg/devices/hooper/c/devices.allow", [b"a"]),
        Order("/cg/pids/hooper/c/pids.max", [b"7"]),
    ]
    assert cgroup.orders(msgspec.structs.replace(resources, memory=oci.Memory(limit=1 << 30))) is None


def test_a_limit_that_this_host_has_no_controller_for_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """`apply` refuses it."""
    monkeypatch.setattr("hooper.linux.cgroups_v1.layout", lambda: Layout("", {"memory": "/cg/memory"}))
    assert LegacyCgroup("/hooper/c").orders(oci.Resources(pids=oci.Pids(limit=7))) is None
