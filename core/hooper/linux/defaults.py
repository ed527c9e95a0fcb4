"""What every container gets unless asked otherwise, after Docker."""

from __future__ import annotations

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
"""Hidden: they tell of the host or its hardware."""

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Visible, never writable: they steer the host's kernel."""

DEVICES: tuple[tuple[str, int, int], ...] = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
"""(name in /dev, major, minor) of the character devices that the OCI specification requires."""

DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
"""(name in /dev, target)."""

DEVICE_PATHS = frozenset(
    [f"/dev/{name}" for name, _, _ in DEVICES] + [f"/dev/{name}" for name, _ in DEVICE_LINKS] + ["/dev/console"]
)
"""What a backend makes in /dev without being asked."""
