"""Cgroups of a container, v1 (also hybrid) and v2 behind one interface.

A `Cgroup` is a place and has no state: any process may open it again by its path. Paths are below the root that
this process sees of each hierarchy, "/hooper/<id>".
"""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hooper.api import oci
from hooper.api.errors import Unavailable
from hooper.api.isolation import Stats

_PATIENCE = 10.0
"""Seconds that killed processes get to die."""


class Layout(NamedTuple):
    """Where the hierarchies of this host are mounted."""

    unified: str
    """The v2 hierarchy, where it has the controllers; else empty."""
    v1: dict[str, str]
    """Mount point by controller; "name=systemd" and "unified" for the ones without controllers."""


class Order(NamedTuple):
    """A directory to make, or a file to write texts to, one at a time."""

    path: str
    texts: Sequence[bytes] = ()


_layout: Layout | None = None


def layout() -> Layout:
    """The host's layout, read once a process and its forks."""
    global _layout
    if _layout is None:
        with open("/proc/self/mountinfo") as file:
            _layout = parse_layout(file)
    return _layout


def parse_layout(mountinfo: Iterable[str]) -> Layout:
    """The layout that lines of /proc/self/mountinfo tell (proc(5))."""
    unified = ""
    v1: dict[str, str] = {}
    for line in mountinfo:
        before, _, after = line.partition(" - ")
        fstype, _, options = after.split(maxsplit=2)
        point = before.split()[4]
        if fstype == "cgroup2":
            unified = unified or point
        elif fstype == "cgroup":
            for word in options.strip().split(","):
                if word not in ("rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "none"):
                    v1.setdefault(word, point)
    if not any(not name.startswith("name=") for name in v1):
        return Layout(unified, {})
    if unified:
        v1["unified"] = unified
    return Layout("", v1)


class Cgroup(ABC):
    """The cgroup of one container, in every hierarchy that it needs."""

    def __init__(self, path: str) -> None:
        self.path = "/" + path.strip("/")
        self.inside = False
        """This process is in it, for it was forked into it or has entered it."""

    @abstractmethod
    def create(self, resources: oci.Resources | None) -> None:
        """Makes it, and its parents, with room for what `resources` limits."""

    @abstractmethod
    def create_parents(self) -> None:
        """Makes what is above it, so that `create` need not."""

    @abstractmethod
    def enter(self) -> None:
        """Moves the calling process, which has a single thread, into it, unless it is there."""

    def prepare_fork(self) -> None:
        """Makes as much of it as `fork` needs, for a container that is to `create` it itself."""
        return

    @abstractmethod
    def planned(self, resources: oci.Resources | None) -> dict[str, str]:
        """What `directories` will say once `create` has made it."""

    @abstractmethod
    def entrances(self, resources: oci.Resources | None) -> list[str]:
        """Files that a process writes "0" to in order to `enter` what `create` has made, if it was not born there."""

    def orders(self, resources: oci.Resources | None) -> Sequence[Order] | None:
        """What `create` and `apply` do where nothing is yet; None if they have to look at what the kernel says."""
        return None

    def birthplace(self) -> int | None:
        """A descriptor of the existing cgroup for clone3(2) to make a process in; None where that cannot be."""
        return None

    def fork(self) -> int:
        """fork(2). Where the kernel can make the child in this cgroup, which exists, `inside` is set there."""
        return os.fork()

    @abstractmethod
    def apply(self, resources: oci.Resources) -> None:
        """Sets the limits that are given and leaves the others; Unsupported names the limit that cannot be set."""

    @abstractmethod
    def freeze(self) -> None:
        """Returns when all processes are frozen."""

    @abstractmethod
    def thaw(self) -> None: ...

    @abstractmethod
    def stats(self) -> Stats: ...

    @abstractmethod
    def oom_kills(self) -> int:
        """How often the kernel killed one of its processes for memory."""

    @abstractmethod
    def directories(self) -> dict[str, str]:
        """Its existing directory by the name that the hierarchy has below /sys/fs/cgroup ("" on v2)."""

    def pids(self) -> list[int]:
        """All processes, also those of cgroups below, in this pid namespace. Empty if it does not exist."""
        return sorted({pid for place in self._process_directories() for pid in _pids_below(place)})

    def kill(self) -> None:
        """Sends SIGKILL to all processes, also to those that are made meanwhile, and thaws them."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.thaw()

    def remove(self) -> None:
        """Kills what is left and removes it with all below it. Harmless if there is nothing.

        Unavailable if a process does not die in time.
        """
        deadline = time.monotonic() + _PATIENCE
        pause = 0.0005
        while not self._try_remove():
            self.kill()
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"removing the cgroup {self.path}",
                    f"processes {self.pids()} do not die",
                    "They wait for a device or a network file system; try again when it answers.",
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def _try_remove(self) -> bool:
        done = [remove_tree(place) for place in self.directories().values()]
        return all(done)

    @abstractmethod
    def _process_directories(self) -> Sequence[str]:
        """Where all its processes are listed: one hierarchy, or several while one may be missing."""


def open_cgroup(path: str) -> Cgroup:
    """The cgroup at `path`, on this host's version; it need not exist."""
    if layout().unified:
        from hooper.linux.cgroups_v2 import UnifiedCgroup

        return UnifiedCgroup(path)
    from hooper.linux.cgroups_v1 import LegacyCgroup

    return LegacyCgroup(path)


def read(path: str) -> str:
    """The content of a small file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode()
    finally:
        os.close(fd)


def read_if_there(path: str) -> str:
    """The content of a small file, empty if it cannot be read."""
    try:
        return read(path)
    except OSError:  # also ENODEV: the cgroup was removed while the file was open
        return ""


def write(path: str, text: str) -> None:
    """One write(2) to an existing file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def pairs(text: str) -> dict[str, int]:
    """Lines of "name number"."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[name] = int(value)
    return found


def make_directory(path: str) -> bool:
    """Makes a cgroup and its parents; False if it was there."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)
    return True


def remove_tree(path: str) -> bool:
    """Removes a cgroup and all below it; False if it still has processes."""
    try:
        os.rmdir(path)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass
    for below, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(below)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _pids_below(path: str) -> list[int]:
    found: list[int] = []
    for below, _, _ in os.walk(path):
        found += map(int, read_if_there(f"{below}/cgroup.procs").split())
    return found
