"""Cgroup v2 on a directory tree with the files that the kernel would show; any host can run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hooper.api import oci
from hooper.api.errors import Unsupported
from hooper.linux import cgroups, cgroups_v2
from hooper.linux.cgroups import Layout
from hooper.linux.cgroups_v2 import UnifiedCgroup

ALL = "cpuset cpu io memory hugetlb pids rdma misc"
OURS = {"cpu", "cpuset", "io", "memory", "pids"}


class Hierarchy:
    """What the kernel does on writes, in so far as hooper depends on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entered: list[str] = []
        self._show(root, ALL)

    def make(self, path: str, *, procs: str = "", enabled: str = "", **files: str) -> Path:
        place = self.root / path
        for each in reversed([place, *place.relative_to(self.root).parents]):
            directory = self.root / each
            directory.mkdir(exist_ok=True)
            if not (directory / "cgroup.controllers").exists():
                self._show(directory, (directory.parent / "cgroup.subtree_control").read_text())
        (place / "cgroup.procs").write_text(procs)
        (place / "cgroup.subtree_control").write_text(enabled)
        for name, text in files.items():
            (place / name.replace("_", ".", 1)).write_text(text)
        return place

    def _show(self, place: Path, controllers: str) -> None:
        (place / "cgroup.controllers").write_text(controllers)
        (place / "cgroup.subtree_control").write_text("")
        (place / "cgroup.procs").write_text("")

    def write(self, path: str, text: str) -> None:
        file = Path(path)
        if file.name == "cgroup.procs":
            self.entered.append(str(file.parent.relative_to(self.root)))
        elif file.name == "cgroup.subtree_control":
            self._enable(file, text.removeprefix("+"))
        elif file.exists():
            file.write_text(text)
        else:
            raise FileNotFoundError(path)

    def _enable(self, file: Path, controller: str) -> None:
        if controller not in (file.parent / "cgroup.controllers").read_text().split():
            raise FileNotFoundError(file)
        file.write_text(f"{file.read_text() if file.exists() else ''} {controller}")
        for child in filter(Path.is_dir, file.parent.iterdir()):
            (child / "cgroup.controllers").write_text(file.read_text())

    def enabled(self, path: str) -> set[str]:
        return set((self.root / path / "cgroup.subtree_control").read_text().split())


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    made = Hierarchy(tmp_path)
    monkeypatch.setattr(cgroups, "_layout", Layout(str(tmp_path), {}))
    monkeypatch.setattr(cgroups_v2, "write", made.write)
    return made


def test_controllers_are_handed_down_by_a_parent_that_was_there(hierarchy: Hierarchy) -> None:
    hierarchy.make("site/team")
    UnifiedCgroup("/site/team/c").create(None)
    assert (hierarchy.root / "site/team/c").is_dir()
    assert hierarchy.enabled("") == hierarchy.enabled("site") == hierarchy.enabled("site/team") == OURS


def test_what_is_handed_down_is_not_enabled_again(hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    UnifiedCgroup("/hooper/first").create_parents()
    monkeypatch.setattr(cgroups_v2, "write", lambda *call: pytest.fail(f"wrote {call}"))
    UnifiedCgroup("/hooper/second").create(None)


def test_controllers_that_the_root_lacks_are_not_asked_for(hierarchy: Hierarchy) -> None:
    (hierarchy.root / "cgroup.controllers").write_text("memory pids")
    UnifiedCgroup("/hooper/c").create_parents()
    assert hierarchy.enabled("hooper") == {"memory", "pids"}


def test_a_further_process_enters_the_container_cgroup(hierarchy: Hierarchy) -> None:
    hierarchy.make("hooper/c", procs="71\n")
    cgroup = UnifiedCgroup("/hooper/c")
    cgroup.enter()
    cgroup.enter()
    assert hierarchy.entered == ["hooper/c"]


def test_a_further_process_joins_the_first_where_the_container_has_cgroups_of_its_own(hierarchy: Hierarchy) -> None:
    hierarchy.make("hooper/c", enabled="memory pids")
    hierarchy.make("hooper/c/system.slice", procs="80\n90\n")
    hierarchy.make("hooper/c/init.scope", procs="71\n95\n")
    UnifiedCgroup("/hooper/c").enter()
    assert hierarchy.entered == ["hooper/c/init.scope"]


def test_limits(hierarchy: Hierarchy) -> None:
    files = {"memory_max": "", "memory_low": "", "memory_swap.max": "", "pids_max": "", "cpu_weight": "", "cpu_max": ""}
    place = hierarchy.make("hooper/c", **{**files, "cpu_max": "max 50000"})
    UnifiedCgroup("/hooper/c").apply(
        oci.Resources(
            memory=oci.Memory(limit=64 << 20, swap=96 << 20, reservation=32 << 20),
            cpu=oci.CPU(shares=512, quota=25000),
            pids=oci.Pids(limit=77),
        )
    )
    found = {name.replace("_", ".", 1): (place / name.replace("_", ".", 1)).read_text() for name in files}
    assert found == {
        "memory.max": str(64 << 20),
        "memory.low": str(32 << 20),
        "memory.swap.max": str(32 << 20),
        "pids.max": "77",
        "cpu.weight": "20",
        "cpu.max": "25000 50000",
    }


@pytest.mark.parametrize(
    ("file", "weights"),
    [("io.weight", ["default 4950", "8:0 9192"]), ("io.bfq.weight", ["500", "8:0 920"])],
)
def test_disks(hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch, file: str, weights: list[str]) -> None:
    place = hierarchy.make("hooper/c", **{file.replace(".", "_", 1): "", "io_max": ""})
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(cgroups_v2, "write", lambda path, text: written.append((path, text)))
    disk = {"major": 8, "minor": 0}
    UnifiedCgroup("/hooper/c").apply(
        oci.Resources(
            block_io=oci.BlockIO(
                weight=500,
                weight_device=[oci.WeightDevice(**disk, weight=920)],
                throttle_read_bps_device=[oci.ThrottleDevice(**disk, rate=1024)],
                throttle_write_bps_device=[oci.ThrottleDevice(**disk, rate=2048)],
                throttle_read_iops_device=[oci.ThrottleDevice(**disk, rate=3)],
                throttle_write_iops_device=[oci.ThrottleDevice(**disk, rate=0)],
            )
        )
    )
    assert written == [
        *((f"{place}/{file}", text) for text in weights),
        *((f"{place}/io.max", f"8:0 {text}") for text in ("rbps=1024", "wbps=2048", "riops=3", "wiops=max")),
    ]


def test_unlimited(hierarchy: Hierarchy) -> None:
    files = ("memory.max", "memory.swap.max", "cpu.max", "pids.max")
    place = hierarchy.make("hooper/c", **{name.replace(".", "_", 1): "1 100000" for name in files})
    UnifiedCgroup("/hooper/c").apply(
        oci.Resources(memory=oci.Memory(limit=-1, swap=-1), cpu=oci.CPU(quota=-1), pids=oci.Pids(limit=-1))
    )
    assert [(place / name).read_text() for name in files] == ["max", "max", "max 100000", "max"]


def test_a_limit_without_its_controller_names_the_file_to_change(hierarchy: Hierarchy) -> None:
    hierarchy.make("bare/c")
    with pytest.raises(Unsupported, match=r"memory\.max") as caught:
        UnifiedCgroup("/bare/c").apply(oci.Resources(memory=oci.Memory(limit=1 << 20)))
    assert f"{hierarchy.root}/bare/cgroup.subtree_control" in caught.value.remedy


def test_stats(hierarchy: Hierarchy) -> None:
    hierarchy.make(
        "hooper/c",
        cpu_stat="usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_periods 41\nnr_throttled 40\nthrottled_usec 3",
        memory_current="192512\n",
        memory_max="max\n",
        memory_stat="anon 57344\nfile 0\n",
        memory_events="low 0\noom 2\noom_kill 1\n",
        pids_current="3\n",
        pids_max="77\n",
        io_stat="254:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n8:0 \n",
    )
    stats = UnifiedCgroup("/hooper/c").stats()
    assert (stats.cpu_usage, stats.cpu_user, stats.cpu_system) == (12_000, 7_000, 5_000)
    assert (stats.periods, stats.throttled_periods, stats.throttled_time) == (41, 40, 3_000)
    assert (stats.memory_usage, stats.memory_limit, stats.oom_kills) == (192512, None, 1)
    assert (stats.memory_stat, stats.pids, stats.pids_limit) == ({"anon": 57344, "file": 0}, 3, 77)
    assert stats.block_io == [(254, 0, "read", 4096), (254, 0, "write", 512)]


def test_processes_of_cgroups_below_count(hierarchy: Hierarchy) -> None:
    hierarchy.make("hooper/c", enabled="memory")
    hierarchy.make("hooper/c/a", procs="9\n")
    hierarchy.make("hooper/c/b", procs="7\n8\n")
    assert UnifiedCgroup("/hooper/c").pids() == [7, 8, 9]
