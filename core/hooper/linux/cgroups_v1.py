"""Cgroup v1: one hierarchy a controller (kernel: Documentation/admin-guide/cgroup-v1)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence

from hooper.api import oci
from hooper.api.errors import Unavailable, Unsupported
from hooper.api.isolation import Stats
from hooper.linux.cgroups import (
    Cgroup,
    Order,
    layout,
    make_directory,
    pairs,
    read,
    read_if_there,
    remove_tree,
    write,
)
from hooper.linux.device_rules import reduce, v1_line

_ALWAYS = ("memory", "cpu", "cpuacct", "devices", "pids", "freezer", "blkio")
_SYSTEMD = ("name=systemd", "unified")
"""systemd kills what it finds in its service's cgroup there, so containers must leave it."""
_UNLIMITED = 1 << 62
_FREEZE_PATIENCE = 10.0
_JIFFY_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class LegacyCgroup(Cgroup):
    """A cgroup by the same path in several hierarchies, which may be mounted together."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._made: Sequence[str] | None = None
        """The mount points of the hierarchies in which it was made by this object: there is no need to look for it."""

    def _points(self) -> Iterable[str]:
        """Of all hierarchies in which it may be."""
        return dict.fromkeys(layout().v1.values()) if self._made is None else self._made

    def _place(self, controller: str) -> str:
        return layout().v1.get(controller, "") + self.path

    def _controllers(self, resources: oci.Resources | None) -> list[str]:
        wanted = list(_ALWAYS)
        if resources and resources.cpu and (resources.cpu.cpus or resources.cpu.mems):
            wanted.append("cpuset")
        if os.path.isdir("/run/systemd/system"):
            wanted += _SYSTEMD
        return [name for name in wanted if name in layout().v1]

    def create(self, resources: oci.Resources | None) -> None:
        for name in self._controllers(resources):
            if name == "cpuset":
                _inherit_cpuset(layout().v1[name], self.path)
            else:
                make_directory(self._place(name))
        self._made = self._wanted(resources)

    def planned(self, resources: oci.Resources | None) -> dict[str, str]:
        return {os.path.basename(point): point + self.path for point in self._wanted(resources)}

    def entrances(self, resources: oci.Resources | None) -> list[str]:
        return [self._entrance(point) for point in self._wanted(resources)]

    def _wanted(self, resources: oci.Resources | None) -> list[str]:
        """The mount points of the hierarchies that it is made in; some hold several controllers."""
        return list(dict.fromkeys(layout().v1[name] for name in self._controllers(resources)))

    def _entrance(self, point: str) -> str:
        # A thread that moves itself takes no lock; anything else waits for an RCU grace period, some 8 ms.
        return f"{point}{self.path}/{'tasks' if point != layout().v1.get('unified') else 'cgroup.procs'}"

    def orders(self, resources: oci.Resources | None) -> Sequence[Order] | None:
        controllers = self._controllers(resources)
        if resources and (resources.memory or resources.cpu or resources.block_io):
            return None
        if resources and resources.pids and "pids" not in controllers:
            return None  # `apply` says so
        made = [Order(self._place(name)) for name in controllers]
        if resources and resources.devices:
            made += self._device_orders(resources.devices)
        if resources and resources.pids:
            made.append(Order(f"{self._place('pids')}/pids.max", [_pids(resources.pids).encode()]))
        return made

    def create_parents(self) -> None:
        for name in self._controllers(None):
            make_directory(os.path.dirname(self._place(name)))

    def enter(self) -> None:
        if self.inside:
            return
        for point in self._points():
            try:
                write(self._entrance(point), "0")
            except FileNotFoundError:
                continue
        self.inside = True

    def directories(self) -> dict[str, str]:
        places = {os.path.basename(point): point + self.path for point in self._points()}
        return {name: place for name, place in places.items() if self._made is not None or os.path.isdir(place)}

    def _process_directories(self) -> Sequence[str]:
        known = [self._place(name) for name in ("freezer", "pids", "memory") if name in layout().v1]
        return [next((place for place in known if os.path.isdir(place)), "/nonexistent")]

    def _try_remove(self) -> bool:
        done = [remove_tree(point + self.path) for point in set(layout().v1.values())]
        return all(done)

    # --- limits ---

    def apply(self, resources: oci.Resources) -> None:
        if resources.devices:
            self._devices(resources.devices)
        if resources.memory:
            self._memory(resources.memory)
        if resources.cpu:
            self._cpu(resources.cpu)
        if resources.pids:
            self._set("pids", "pids.max", _pids(resources.pids))
        if resources.block_io:
            self._block_io(resources.block_io)

    def _set(self, controller: str, file: str, value: str) -> None:
        if controller not in layout().v1:
            raise Unsupported(
                f"setting {file}",
                f"this host has no cgroup controller {controller}",
                "Leave that limit away, or boot a kernel with the controller.",
            )
        place = self._place(controller)
        try:
            write(f"{place}/{file}", value)
        except FileNotFoundError as error:
            raise Unsupported(f"setting {file} to {value}", "this kernel does not have it", "") from error

    def _devices(self, rules: Sequence[oci.DeviceRule]) -> None:
        for path, texts in self._device_orders(rules):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                for text in texts:
                    os.write(fd, text)
            finally:
                os.close(fd)

    def _device_orders(self, rules: Sequence[oci.DeviceRule]) -> list[Order]:
        if "devices" not in layout().v1:
            return []
        policy = reduce(rules)
        place = self._place("devices")
        lines = [v1_line(device, access) for device, access in policy.exceptions.items()]
        allow, deny = f"{place}/devices.allow", f"{place}/devices.deny"
        first, then = (allow, deny) if policy.allow else (deny, allow)
        return [Order(first, [b"a"]), *([Order(then, lines)] if lines else [])]

    def _memory(self, memory: oci.Memory) -> None:
        both = "memory.memsw.limit_in_bytes"
        has_swap = memory.swap is not None and os.path.exists(f"{self._place('memory')}/{both}")
        steps: list[tuple[str, int | None]] = [
            ("memory.limit_in_bytes", memory.limit),
            (both, memory.swap if has_swap else None),
        ]
        # The kernel keeps limit <= memsw at each step, so that a raised memsw goes first.
        if has_swap and memory.swap is not None and self._raises(both, memory.swap):
            steps.reverse()
        steps.append(("memory.soft_limit_in_bytes", memory.reservation))
        steps.append(("memory.swappiness", memory.swappiness))
        for file, value in steps:
            if value is not None:
                self._set_memory(file, value)
        if memory.disable_oom_killer is not None:
            self._set("memory", "memory.oom_control", str(int(memory.disable_oom_killer)))

    def _raises(self, file: str, value: int) -> bool:
        present = int(read(f"{self._place('memory')}/{file}"))
        return value == -1 or value > present

    def _set_memory(self, file: str, value: int) -> None:
        try:
            self._set("memory", file, str(value))
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EINVAL):
                raise
            raise Unsupported(
                f"setting {file} to {value}",
                "more is in use" if error.errno == errno.EBUSY else "the kernel refuses the value",
                "Give a higher limit; the limit with swap is never below the one without.",
            ) from error

    def _cpu(self, cpu: oci.CPU) -> None:
        for file, value in (
            ("cpu.shares", cpu.shares),
            ("cpu.cfs_period_us", cpu.period),
            ("cpu.cfs_quota_us", cpu.quota),
            ("cpu.rt_period_us", cpu.realtime_period),
            ("cpu.rt_runtime_us", cpu.realtime_runtime),
        ):
            if value is not None:
                self._set_cpu(file, value)
        for file, words in (("cpuset.cpus", cpu.cpus), ("cpuset.mems", cpu.mems)):
            if words:
                self._cpuset(file, words)

    def _set_cpu(self, file: str, value: int) -> None:
        try:
            self._set("cpu", file, str(value))
        except OSError as error:
            parent = os.path.dirname(self._place("cpu"))
            raise Unsupported(
                f"setting {file} to {value}",
                os.strerror(error.errno or 0).lower(),
                f"Real-time time must be there to be given: raise {parent}/cpu.rt_runtime_us first."
                if file.startswith("cpu.rt_")
                else "Give a value that this host can do.",
            ) from error

    def _cpuset(self, file: str, words: str) -> None:
        if "cpuset" in layout().v1 and not os.path.isdir(self._place("cpuset")):
            _inherit_cpuset(layout().v1["cpuset"], self.path)
            self._made = None
            for pid in self.pids():
                write(f"{self._place('cpuset')}/cgroup.procs", str(pid))
        try:
            self._set("cpuset", file, words)
        except OSError as error:
            raise Unsupported(
                f"setting {file} to {words}", os.strerror(error.errno or 0), "Name processors that this host has."
            ) from error

    def _block_io(self, block_io: oci.BlockIO) -> None:
        prefix = "blkio" if os.path.exists(f"{self._place('blkio')}/blkio.weight") else "blkio.bfq"
        if block_io.weight:
            self._set("blkio", f"{prefix}.weight", str(block_io.weight))
        for each in block_io.weight_device:
            self._set_device("blkio", f"{prefix}.weight_device", f"{each.major}:{each.minor} {each.weight}")
        for file, devices in (
            ("read_bps_device", block_io.throttle_read_bps_device),
            ("write_bps_device", block_io.throttle_write_bps_device),
            ("read_iops_device", block_io.throttle_read_iops_device),
            ("write_iops_device", block_io.throttle_write_iops_device),
        ):
            for device in devices:
                self._set_device("blkio", f"blkio.throttle.{file}", f"{device.major}:{device.minor} {device.rate}")

    def _set_device(self, controller: str, file: str, words: str) -> None:
        try:
            self._set(controller, file, words)
        except OSError as error:
            raise Unsupported(
                f"setting {file} to {words}",
                os.strerror(error.errno or 0).lower(),
                "Name a whole disk; weights need the I/O scheduler bfq on it.",
            ) from error

    # --- state ---

    def freeze(self) -> None:
        state = f"{self._place('freezer')}/freezer.state"
        deadline = time.monotonic() + _FREEZE_PATIENCE
        write(state, "FROZEN")
        while read(state).strip() != "FROZEN":
            if time.monotonic() > deadline:
                write(state, "THAWED")
                raise Unavailable(
                    f"freezing the cgroup {self.path}", "a process cannot be frozen now", "Try again a little later."
                )
            time.sleep(0.001)
            write(state, "FROZEN")  # a fork during the freeze leaves it in FREEZING

    def thaw(self) -> None:
        try:
            write(f"{self._place('freezer')}/freezer.state", "THAWED")
        except FileNotFoundError:
            return

    def oom_kills(self) -> int:
        return pairs(read_if_there(f"{self._place('memory')}/memory.oom_control")).get("oom_kill", 0)

    def stats(self) -> Stats:
        cpu, acct = self._place("cpu"), self._place("cpuacct")
        memory, pids = self._place("memory"), self._place("pids")
        usage, throttling = pairs(read_if_there(f"{acct}/cpuacct.stat")), pairs(read_if_there(f"{cpu}/cpu.stat"))
        limit = _number(f"{memory}/memory.limit_in_bytes")
        return Stats(
            cpu_usage=_number(f"{acct}/cpuacct.usage") or 0,
            cpu_user=usage.get("user", 0) * _JIFFY_NS,
            cpu_system=usage.get("system", 0) * _JIFFY_NS,
            periods=throttling.get("nr_periods", 0),
            throttled_periods=throttling.get("nr_throttled", 0),
            throttled_time=throttling.get("throttled_time", 0),
            memory_usage=_number(f"{memory}/memory.usage_in_bytes") or 0,
            memory_limit=limit if limit is not None and limit < _UNLIMITED else None,
            memory_stat=pairs(read_if_there(f"{memory}/memory.stat")),
            oom_kills=self.oom_kills(),
            pids=_number(f"{pids}/pids.current") or 0,
            pids_limit=_number(f"{pids}/pids.max"),
            block_io=_block_io(self._place("blkio"), "io_service_bytes"),
            block_operations=_block_io(self._place("blkio"), "io_serviced"),
            cpu_each=[int(text) for text in read_if_there(f"{acct}/cpuacct.usage_percpu").split()],
            memory_peak=_number(f"{memory}/memory.max_usage_in_bytes"),
        )


def _pids(pids: oci.Pids) -> str:
    return str(pids.limit) if pids.limit > 0 else "max"


def _number(path: str) -> int | None:
    text = read_if_there(path).strip()
    return int(text) if text.isdigit() else None


def _block_io(place: str, counter: str) -> list[tuple[int, int, str, int]]:
    text = ""
    for file in (f"{counter}_recursive", counter):
        text = read_if_there(f"{place}/blkio.throttle.{file}")
        if text:
            break
    found = []
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] in ("Read", "Write"):
            major, minor = parts[0].split(":")
            found.append((int(major), int(minor), parts[1].lower(), int(parts[2])))
    return found


def _inherit_cpuset(point: str, path: str) -> None:
    """Makes the cgroup with the processors and memory nodes of its parent: empty ones take no process."""
    place = point
    for part in path.strip("/").split("/"):
        above, place = place, f"{place}/{part}"
        if make_directory(place) or not read(f"{place}/cpuset.cpus").strip():
            for file in ("cpuset.cpus", "cpuset.mems"):
                write(f"{place}/{file}", read(f"{above}/{file}").strip())
