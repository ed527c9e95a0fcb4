"""Cgroup v2: one hierarchy for all controllers (kernel: Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Sequence

from hooper.api import oci
from hooper.api.errors import Unavailable, Unsupported
from hooper.api.isolation import Stats
from hooper.linux import device_rules
from hooper.linux.cgroups import Cgroup, layout, make_directory, pairs, read_if_there, write
from hooper.linux.forking import fork_into

_CONTROLLERS = frozenset(("cpu", "cpuset", "io", "memory", "pids"))
_FREEZE_PATIENCE = 10.0


def weight_of_shares(shares: int) -> int:
    """v1's cpu.shares (2 to 262144) on the scale of cpu.weight (1 to 10000)."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def weight_of_blkio(weight: int) -> int:
    """v1's blkio.weight (10 to 1000) on the scale of io.weight (1 to 10000)."""
    return 1 + (weight - 10) * 9999 // 990


class UnifiedCgroup(Cgroup):
    """A cgroup in the unified hierarchy. Its parents hand all controllers down."""

    @property
    def _place(self) -> str:
        return layout().unified + self.path

    def create(self, resources: oci.Resources | None) -> None:
        self.create_parents()
        make_directory(self._place)

    def prepare_fork(self) -> None:
        self.create(None)

    def create_parents(self) -> None:
        parent = os.path.dirname(self._place)
        if not os.path.isdir(parent):
            make_directory(parent)
        if _controllers(layout().unified, "cgroup.controllers") - _controllers(parent, "cgroup.subtree_control"):
            self._hand_down()

    def _hand_down(self) -> None:
        """Enables what the root has, in each parent; what cannot be enabled is missed when it is used."""
        place = layout().unified
        for part in ("", *self.path.strip("/").split("/")[:-1]):
            place = f"{place}/{part}" if part else place
            missing = _controllers(place, "cgroup.controllers") - _controllers(place, "cgroup.subtree_control")
            for name in sorted(missing):
                self._enable(place, name)

    def _enable(self, place: str, controller: str) -> None:
        try:
            write(f"{place}/cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            # EBUSY: it has processes of its own, as the visible root has in a container without an init.
            if error.errno not in (errno.EBUSY, errno.EPERM, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP):
                raise

    def enter(self) -> None:
        if not self.inside:
            write(f"{self._entrance()}/cgroup.procs", "0")
            self.inside = True

    def planned(self, resources: oci.Resources | None) -> dict[str, str]:
        return {"": self._place}

    def entrances(self, resources: oci.Resources | None) -> list[str]:
        return []

    def birthplace(self) -> int:
        return os.open(self._entrance(), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def fork(self) -> int:
        fd = self.birthplace()
        try:
            pid = fork_into(fd)
            self.inside = pid == 0
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.E2BIG):
                raise
            pid = os.fork()
        finally:
            os.close(fd)
        return pid

    def _entrance(self) -> str:
        """Where a further process goes.

        A container that hands controllers down to cgroups of its own, as a service manager does, may have processes
        in those alone; there one joins the container's first process.
        """
        if not read_if_there(f"{self._place}/cgroup.subtree_control").strip():
            return self._place
        found: list[tuple[int, str]] = []
        for below, _, _ in os.walk(self._place):
            found += [(int(pid), below) for pid in read_if_there(f"{below}/cgroup.procs").split()]
        return min(found)[1] if found else self._place

    def directories(self) -> dict[str, str]:
        return {"": self._place} if os.path.isdir(self._place) else {}

    def _process_directories(self) -> Sequence[str]:
        return [self._place]

    def kill(self) -> None:
        try:
            write(f"{self._place}/cgroup.kill", "1")
            self.thaw()
        except FileNotFoundError:  # before Linux 5.14, or nothing to kill
            super().kill()

    # --- limits ---

    def apply(self, resources: oci.Resources) -> None:
        if resources.devices:
            self._devices(resources.devices)
        if resources.memory:
            self._memory(resources.memory)
        if resources.cpu:
            self._cpu(resources.cpu)
        if resources.pids:
            self._set("pids.max", _limit(resources.pids.limit or -1))
        if resources.block_io:
            self._block_io(resources.block_io)

    def _set(self, file: str, value: str) -> None:
        try:
            write(f"{self._place}/{file}", value)
        except FileNotFoundError as error:
            raise Unsupported(
                f"setting {file} to {value}",
                f"the cgroup controller {file.partition('.')[0]} is not handed down to {self.path}",
                f"Enable it in {os.path.dirname(self._place)}/cgroup.subtree_control, or leave the limit away.",
            ) from error
        except OSError as error:
            raise Unsupported(
                f"setting {file} to {value}", os.strerror(error.errno or 0), "Give a value that this host can do."
            ) from error

    def _devices(self, rules: Sequence[oci.DeviceRule]) -> None:
        fd = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            device_rules.attach(fd, device_rules.reduce(rules))
        except OSError as error:
            raise Unsupported(
                "restricting devices",
                f"loading a cgroup device program failed: {error.strerror}",
                "The kernel needs CONFIG_CGROUP_BPF, and hooper root's rights.",
            ) from error
        finally:
            os.close(fd)

    def _memory(self, memory: oci.Memory) -> None:
        if memory.swap is not None and os.path.exists(f"{self._place}/memory.swap.max"):
            only_swap = memory.swap if memory.swap == -1 or memory.limit is None else memory.swap - memory.limit
            self._set("memory.swap.max", "max" if only_swap < 0 else str(only_swap))
        if memory.limit is not None:
            self._set("memory.max", _limit(memory.limit))
        if memory.reservation is not None:
            self._set("memory.low", _limit(memory.reservation))

    def _cpu(self, cpu: oci.CPU) -> None:
        if cpu.shares is not None:
            self._set("cpu.weight", str(weight_of_shares(cpu.shares)))
        if cpu.quota is not None or cpu.period is not None:
            quota, period = (read_if_there(f"{self._place}/cpu.max").split() or ["max", "100000"])[:2]
            if cpu.quota is not None:
                quota = _limit(cpu.quota if cpu.quota > 0 else -1)
            self._set("cpu.max", f"{quota} {cpu.period or period}")
        if cpu.cpus:
            self._set("cpuset.cpus", cpu.cpus)
        if cpu.mems:
            self._set("cpuset.mems", cpu.mems)

    def _block_io(self, block_io: oci.BlockIO) -> None:
        bfq = os.path.exists(f"{self._place}/io.bfq.weight")

        def scaled(weight: int) -> int:
            return weight if bfq else weight_of_blkio(weight)

        file = "io.bfq.weight" if bfq else "io.weight"
        if block_io.weight:
            self._set(file, str(scaled(block_io.weight)) if bfq else f"default {scaled(block_io.weight)}")
        for each in block_io.weight_device:
            self._set(file, f"{each.major}:{each.minor} {scaled(each.weight)}")
        for key, devices in (
            ("rbps", block_io.throttle_read_bps_device),
            ("wbps", block_io.throttle_write_bps_device),
            ("riops", block_io.throttle_read_iops_device),
            ("wiops", block_io.throttle_write_iops_device),
        ):
            for device in devices:
                self._set("io.max", f"{device.major}:{device.minor} {key}={device.rate or 'max'}")

    # --- state ---

    def freeze(self) -> None:
        write(f"{self._place}/cgroup.freeze", "1")
        deadline = time.monotonic() + _FREEZE_PATIENCE
        events = os.open(f"{self._place}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(events, select.POLLPRI | select.POLLERR)
            while pairs(os.pread(events, 4096, 0).decode()).get("frozen") != 1:
                if time.monotonic() > deadline:
                    self.thaw()
                    raise Unavailable(
                        f"freezing the cgroup {self.path}",
                        "a process cannot be frozen now",
                        "Try again a little later.",
                    )
                poll.poll(100)
        finally:
            os.close(events)

    def thaw(self) -> None:
        try:
            write(f"{self._place}/cgroup.freeze", "0")
        except FileNotFoundError:
            return

    def oom_kills(self) -> int:
        return pairs(read_if_there(f"{self._place}/memory.events")).get("oom_kill", 0)

    def stats(self) -> Stats:
        place = self._place
        cpu = pairs(read_if_there(f"{place}/cpu.stat"))
        return Stats(
            cpu_usage=cpu.get("usage_usec", 0) * 1000,
            cpu_user=cpu.get("user_usec", 0) * 1000,
            cpu_system=cpu.get("system_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_usec", 0) * 1000,
            memory_usage=_number(f"{place}/memory.current") or 0,
            memory_limit=_number(f"{place}/memory.max"),
            memory_stat=pairs(read_if_there(f"{place}/memory.stat")),
            oom_kills=self.oom_kills(),
            pids=_number(f"{place}/pids.current") or 0,
            pids_limit=_number(f"{place}/pids.max"),
            block_io=_block_io(read_if_there(f"{place}/io.stat")),
        )


def _controllers(place: str, file: str) -> set[str]:
    """The controllers, of those that limit something here, that a file of the cgroup `place` lists."""
    return set(read_if_there(f"{place}/{file}").split()) & _CONTROLLERS


def _limit(value: int) -> str:
    return "max" if value < 0 else str(value)


def _number(path: str) -> int | None:
    text = read_if_there(path).strip()
    return int(text) if text.isdigit() else None


def _block_io(text: str) -> list[tuple[int, int, str, int]]:
    found = []
    for line in text.splitlines():
        device, *counters = line.split()
        major, minor = device.split(":")
        for counter in counters:
            name, _, value = counter.partition("=")
            if name in ("rbytes", "wbytes"):
                found.append((int(major), int(minor), "read" if name == "rbytes" else "write", int(value)))
    return found
