"""Finding the hierarchies, and numbers that v1 and v2 scale differently."""

from __future__ import annotations

import pytest

from hooper.linux.cgroups import Layout, pairs, parse_layout
from hooper.linux.cgroups_v2 import weight_of_blkio, weight_of_shares

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
""".splitlines()
UNIFIED = ["30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"]


def test_hybrid() -> None:
    base = "/sys/fs/cgroup"
    assert parse_layout(HYBRID) == Layout(
        "",
        {
            "cpu": f"{base}/cpu,cpuacct",
            "cpuacct": f"{base}/cpu,cpuacct",
            "memory": f"{base}/memory",
            "name=systemd": f"{base}/systemd",
            "unified": f"{base}/unified",
        },
    )


def test_unified() -> None:
    assert parse_layout(UNIFIED) == Layout("/sys/fs/cgroup", {})
    assert parse_layout([*UNIFIED, HYBRID[3]]) == Layout("/sys/fs/cgroup", {})


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (0, 1)])
def test_cpu_weights(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


@pytest.mark.parametrize(("blkio", "weight"), [(10, 1), (500, 4950), (1000, 10000)])
def test_io_weights(blkio: int, weight: int) -> None:
    assert weight_of_blkio(blkio) == weight


def test_pairs() -> None:
    assert pairs("user 12\nsystem 3\nmax\nlow -1\n") == {"user": 12, "system": 3}
