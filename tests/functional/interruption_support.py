"""What is left of builds that end before their time: all that a daemon of one's own has on this host."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import support
from hooper.engine.build_archives import KEPT
from hooper_net_bridge.naming import default_bridge, table
from support import Hooper

MARK = "HOOPER_INTERRUPTED"
"""A variable of the environment that all processes of the daemon inherit."""
LASTING = ("contexts", "downloads", "git", "caches")
"""What builds keep for later ones, but for what begins with "." in it."""


def footprint(engine: Hooper) -> dict[str, Any]:
    """All that there is of the daemon, apart from the layers, cached steps and sources that are meant to stay."""
    return {
        "mounts": sorted(_mounts(engine)),
        "processes": sorted(_processes(engine)),
        "containers": _names(engine.data_root / "containers") + _names(engine.exec_root / "containers"),
        "network": _network(engine),
        "builds": _builds(engine.data_root / "builds"),
        "being written": _names(engine.data_root / "content" / "ingest"),
        "temporary": _names(engine.data_root.parent / "tmp"),
        **_recorded(engine),
    }


def settled(engine: Hooper, before: dict[str, Any]) -> None:
    """What is removed in the background, or by a daemon that starts, takes a moment."""

    def differences() -> list[str]:
        now = footprint(engine)
        return [f"{name}: {now[name]} instead of {before[name]}" for name in now if now[name] != before[name]]

    try:
        support.until(lambda: not differences(), 10, "nothing left")
    except AssertionError:
        raise AssertionError("\n".join(differences()) + engine.log_tail()) from None


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def _mounts(engine: Hooper) -> Iterable[str]:
    """In the test's mount namespace, which is the daemon's."""
    roots = (str(engine.data_root), str(engine.exec_root))
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if any(root in line for root in roots):
            yield line


def _processes(engine: Hooper) -> Iterable[str]:
    assert engine.process
    mark = f"{MARK}={engine.data_root}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != engine.process.pid and mark in (entry / "environ").read_bytes().split(b"\0"):
                name = (entry / "comm").read_text().strip()
                if name != "hooper-spare":  # those that wait are as many as there were ends of containers
                    yield name
        except OSError:
            continue


def _network(engine: Hooper) -> tuple[int, int]:
    """How many links the bridge has, and elements the table."""
    links = support.run("ip", "-o", "link", "show", "master", default_bridge(engine.exec_root), check=False).stdout
    listed = support.run("nft", "-j", "list", "table", "inet", table(engine.exec_root), check=False).stdout
    found = json.loads(listed)["nftables"] if listed else []
    elements = [each for item in found for each in (item.get("map") or item.get("set") or {}).get("elem", [])]
    return len(links.splitlines()), len(elements)


def _builds(directory: Path) -> list[str]:
    found = [name for name in _names(directory) if name not in LASTING and not name.startswith(".own-")]
    found += [f"{name}/{each}" for name in LASTING for each in _names(directory / name) if each.startswith(".")]
    # What is set aside belongs to a build; the journal of a daemon that died tells the next one of it.
    aside = [*directory.glob("*/*/aside"), *directory.glob("*/aside")]
    found += [str(path) for path in aside if _names(path) and not (path.parent / "journal").exists()]
    own = [name for name in _names(directory) if name.startswith(".own-")]
    return found + own[KEPT:]  # trees of small archives, for the next build of the same context


def _recorded(engine: Hooper) -> dict[str, Any]:
    """The database against the directories: what is in the one and not in the other."""
    driver = next(path for path in (engine.data_root / "drivers").iterdir() if path.name.startswith("storage-"))
    with closing(sqlite3.connect(f"file:{engine.data_root}/hooper.db?mode=ro", uri=True, timeout=10)) as database:
        rows = database.execute("SELECT value FROM driver_state WHERE key LIKE 'snapshot/%'").fetchall()
        records = [json.loads(value) for (value,) in rows]
        layers = {chain for (chain,) in database.execute("SELECT chain_id FROM layers")}
        steps = {chain for (chain,) in database.execute("SELECT chain_id FROM build_steps WHERE chain_id IS NOT NULL")}
        leases = database.execute("SELECT kind, name FROM leases").fetchall()
        blobs = {digest for (digest,) in database.execute("SELECT digest FROM blobs")}
    keys = {record["key"] for record in records}
    named = {re.sub("^init-", "", key) for key in keys if not key.startswith("init-scratch")}
    there = {f"sha256:{name}" for name in _names(engine.data_root / "content" / "sha256")}
    return {
        "active snapshots": sorted(record["key"] for record in records if record["kind"] != "committed"),
        "snapshots without a layer": sorted(named - layers),
        "layers without a snapshot": sorted(layers - keys),
        "steps without a layer": sorted(steps - layers),
        "directories of no snapshot": sorted(set(_names(driver / "s")) - {str(record["id"]) for record in records}),
        "snapshots without a directory": sorted({str(record["id"]) for record in records} - set(_names(driver / "s"))),
        "trash": _names(driver / "trash"),
        "leases": leases,
        "blobs of no record": sorted(there - blobs),
    }


# --- what is asked of a daemon ---


def client(engine: Hooper, program: str, *words: str) -> subprocess.Popen[str]:
    """A client that goes on in the background; what it says is in one pipe."""
    command = ["docker"] if program == "docker" else [sys.executable, "-m", "hooper"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": "/nonexistent"}
    environment.pop(MARK, None)
    return subprocess.Popen(
        [*command, "-H", engine.address, *words], env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def running(engine: Hooper) -> list[str]:
    """Ids of the containers that run commands of builds."""
    return _names(engine.exec_root / "containers")


def no_cgroup_of(ids: list[str]) -> bool:
    """Whether nothing is left in any hierarchy of these containers."""
    root = Path("/sys/fs/cgroup")
    return not any(list(root.glob(f"hooper/{each}")) + list(root.glob(f"*/hooper/{each}")) for each in ids)


def descriptors(engine: Hooper) -> int:
    """How many the daemon has open."""
    assert engine.process
    return len(os.listdir(f"/proc/{engine.process.pid}/fd"))
