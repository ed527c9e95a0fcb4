"""What the engine says of itself and its host."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import hooper
from hooper.api.driver import HostInfo
from hooper.api.engine import USAGE_KINDS, DiskUsage, System
from hooper.api.specs import Kind
from hooper.engine.build_cache_limits import CacheLimits
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.names import new_id
from hooper.linux import apparmor
from hooper.plugins.manager import DriverRecord, PluginRecord, PluginTable
from hooper.state.database import Database


class SystemService(System):
    def __init__(self, core: Core, table: PluginTable, database: Database, limits: CacheLimits) -> None:
        self._core, self._table, self._database, self._limits = core, table, database, limits

    async def info(self) -> dict[str, Any]:
        return {
            "ID": self.engine_id(),
            **self._counts(),
            **self._drivers(),
            **_abilities(self._core.host),
            "ExperimentalBuild": self._experimental,
            **_host_facts(),
        }

    def _counts(self) -> dict[str, Any]:
        states = [container.state.status for container in self._core.store.all()]
        images = self._database.row("SELECT count(*) FROM images")
        running, paused = states.count("running"), states.count("paused")
        return {
            "Containers": len(states),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(states) - running - paused,
            "Images": images[0] if images else 0,
        }

    def _names(self, kind: Kind) -> list[str]:
        return [driver.spec.name for driver in self._table.of(kind) if driver.usable]

    def _drivers(self) -> dict[str, Any]:
        core = self._core
        return {
            "Driver": core.storage_name,
            "DriverStatus": [["Backing directory", str(core.host.data_root)]],
            "DockerRootDir": str(core.host.data_root),
            "Plugins": {
                "Volume": self._names(Kind.VOLUME),
                "Network": self._names(Kind.NETWORK),
                "Authorization": None,
                "Log": self._names(Kind.LOG),
            },
            "LoggingDriver": core.default_log_driver,
            "Runtimes": {name: {"path": name} for name in self._names(Kind.ISOLATION)},
            "DefaultRuntime": core.default_runtime,
            "ServerVersion": hooper.__version__,
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "",
            "SecurityOptions": [
                *(["name=apparmor"] if apparmor.default() else []),
                "name=seccomp,profile=builtin",
                "name=cgroupns",
            ],
            "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False},
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
                "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}},
                "Mirrors": [],
            },
            **{name: {"ID": "", "Expected": ""} for name in ("ContainerdCommit", "RuncCommit", "InitCommit")},
        }

    def engine_id(self) -> str:
        """64 hex digits, for the life of the data root."""
        row = self._database.row("SELECT value FROM driver_state WHERE driver='' AND key='id'")
        if row is None:
            self._database.execute("INSERT INTO driver_state VALUES ('', 'id', ?)", (new_id().encode(),))
            return self.engine_id()
        return str(row[0].decode())

    @property
    def _experimental(self) -> bool:
        return bool(self._core.selector.config["daemon.experimental"])

    async def version(self) -> dict[str, str]:
        return {
            "Version": hooper.__version__,
            "GitCommit": "",
            "KernelVersion": os.uname().release,
            "Os": "linux",
            "Arch": self._core.host.architecture,
            "BuildTime": "",
            "Experimental": "true" if self._experimental else "false",
            "PythonVersion": platform.python_version(),
        }

    async def disk_usage(self, kinds: Collection[str] = USAGE_KINDS) -> DiskUsage:
        from hooper.engine.disk_usage import measure

        return await measure(self._core, self._limits, kinds)

    async def plugins(self) -> Sequence[dict[str, Any]]:
        for record in self._table.of(Kind.ISOLATION):
            if record.status == "available":
                await self._core.selector.attempt(record)
        rows = [_driver_row(driver) for driver in self._table.drivers]
        return rows + [_plugin_row(plugin) for plugin in self._table.plugins if plugin.status != "ok"]


def _driver_row(driver: DriverRecord) -> dict[str, Any]:
    spec, plugin = driver.spec, driver.plugin
    return {
        "kind": driver.kind.value,
        "name": spec.name,
        "summary": spec.summary,
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "factory": spec.factory,
        "priority": spec.priority,
        "api_version": spec.api_version,
        "capabilities": sorted(spec.capabilities),
        "status": driver.status,
        "reason": driver.reason,
        "traceback": driver.traceback,
    }


def _plugin_row(plugin: PluginRecord) -> dict[str, Any]:
    """A plugin that brought no driver at all."""
    return {
        "kind": "plugin",
        "name": plugin.name,
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "factory": plugin.module,
        "status": plugin.status,
        "reason": plugin.reason,
        "traceback": plugin.traceback,
    }


def _abilities(host: HostInfo) -> dict[str, Any]:
    limits = "MemoryLimit SwapLimit CpuCfsPeriod CpuCfsQuota CPUShares CPUSet PidsLimit".split()
    return {
        **dict.fromkeys(limits, True),
        "IPv4Forwarding": _forwards(),
        "BridgeNfIptables": False,
        "BridgeNfIp6tables": False,
        "OomKillDisable": host.cgroup_version == 1,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(host.cgroup_version),
        "Debug": False,
    }


def _forwards() -> bool:
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return False


def _host_facts() -> dict[str, Any]:
    return {
        "NGoroutines": 0,
        "NEventsListener": 0,
        "SystemTime": rfc3339(),
        "KernelVersion": os.uname().release,
        "OperatingSystem": _operating_system(),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": platform.machine(),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "HttpProxy": os.environ.get("HTTP_PROXY", ""),
        "HttpsProxy": os.environ.get("HTTPS_PROXY", ""),
        "NoProxy": os.environ.get("NO_PROXY", ""),
        "Name": socket.gethostname(),
        "Labels": [],
        "Warnings": [],
    }


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
