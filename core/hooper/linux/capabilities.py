"""Capabilities: names, numbers and sets (capabilities(7))."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from hooper.linux import syscalls as sys

_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""

ALL: tuple[str, ...] = tuple(f"CAP_{name}" for name in _NAMES.split())
"""Every capability by its full name; the index is its number."""

NUMBERS: dict[str, int] = {name: number for number, name in enumerate(ALL)}

DEFAULT_CAPABILITIES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What Docker gives to a container that asks for nothing."""

_PROC_STATUS = "/proc/self/status"


def last_cap() -> int:
    """The highest capability number that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


@cache
def available() -> tuple[str, ...]:
    """Those that this process may give: its bounding set, in the order of their numbers. Read once a process."""
    with open(_PROC_STATUS) as file:
        bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    return tuple(name for number, name in enumerate(ALL) if bounding >> number & 1)


def mask(names: Iterable[str]) -> int:
    """The bit set of these names; names that hooper does not know are left out."""
    bits = 0
    for name in names:
        if name in NUMBERS:
            bits |= 1 << NUMBERS[name]
    return bits


def drop_bounding(keep: int, last: int) -> None:
    """Takes everything up to number `last` that is not in `keep` out of the bounding set. Needs CAP_SETPCAP."""
    for number in range(last + 1):
        if not keep >> number & 1:
            sys.prctl(sys.PR_CAPBSET_DROP, number)


def raise_ambient(bits: int) -> None:
    """Makes the ambient set exactly `bits`, which must be permitted and inheritable."""
    sys.prctl(sys.PR_CAP_AMBIENT, sys.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            sys.prctl(sys.PR_CAP_AMBIENT, sys.PR_CAP_AMBIENT_RAISE, number)
