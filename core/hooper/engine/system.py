"""What the engine says of itself and its host."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Sequence
from typing import Any

import hooper
from hooper.api.engine import System
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.names import new_id
from hooper.plugins.manager import PluginTable
from hooper.state.database import Database


class SystemService(System):
    def __init__(self, core: Core, table: PluginTable, database: Database) -> None:
        self._core, self._table, self._database = core, table, database

    async def info(self) -> dict[str, Any]:
        core = self._core
        states = [container.state.status for container in core.store.all()]
        images = self._database.row("SELECT count(*) FROM images")
        names = {
            kind: [d.spec.name for d in self._table.of(kind) if d.usable]
            for kind in {d.kind for d in self._table.drivers}
        }
        runtimes = {name: {"path": name} for name in names.get(_kind("isolation"), [])}
        v2 = core.host.cgroup_version == 2
        return {
            "ID": self._engine_id(),
            "Containers": len(states),
            "ContainersRunning": states.count("running"),
            "ContainersPaused": states.count("paused"),
            "ContainersStopped": len(states) - states.count("running") - states.count("paused"),
            "Images": images[0] if images else 0,
            "Driver": core.storage_name,
            "DriverStatus": [["Backing directory", str(core.host.data_root)]],
            "Plugins": {
                "Volume": names.get(_kind("volume"), []),
                "Network": names.get(_kind("network"), []),
                "Authorization": None,
                "Log": names.get(_kind("log"), []),
            },
            "MemoryLimit": True,
            "SwapLimit": True,
            "CpuCfsPeriod": True,
            "CpuCfsQuota": True,
            "CPUShares": True,
            "CPUSet": True,
            "PidsLimit": True,
            "IPv4Forwarding": True,
            "BridgeNfIptables": False,
            "BridgeNfIp6tables": False,
            "Debug": False,
            "OomKillDisable": not v2,
            "NGoroutines": 0,
            "SystemTime": rfc3339(),
            "LoggingDriver": core.default_log_driver,
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": str(core.host.cgroup_version),
            "NEventsListener": 0,
            "KernelVersion": os.uname().release,
            "OperatingSystem": _operating_system(),
            "OSVersion": "",
            "OSType": "linux",
            "Architecture": platform.machine(),
            "NCPU": os.cpu_count() or 1,
            "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
                "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}},
                "Mirrors": [],
            },
            "DockerRootDir": str(core.host.data_root),
            "HttpProxy": os.environ.get("HTTP_PROXY", ""),
            "HttpsProxy": os.environ.get("HTTPS_PROXY", ""),
            "NoProxy": os.environ.get("NO_PROXY", ""),
            "Name": socket.gethostname(),
            "Labels": [],
            "ExperimentalBuild": False,
            "ServerVersion": hooper.__version__,
            "Runtimes": runtimes,
            "DefaultRuntime": core.default_runtime,
            "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False},
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "hooper-init",
            "ContainerdCommit": {"ID": "", "Expected": ""},
            "RuncCommit": {"ID": "", "Expected": ""},
            "InitCommit": {"ID": "", "Expected": ""},
            "SecurityOptions": ["name=seccomp,profile=builtin", *(["name=cgroupns"])],
            "Warnings": [],
        }

    def _engine_id(self) -> str:
        row = self._database.row("SELECT value FROM driver_state WHERE driver='' AND key='id'")
        if row is None:
            self._database.execute("INSERT INTO driver_state VALUES ('', 'id', ?)", (new_id().encode(),))
            return self._engine_id()
        return str(row[0].decode())

    async def version(self) -> dict[str, str]:
        return {
            "Version": hooper.__version__,
            "GitCommit": "",
            "KernelVersion": os.uname().release,
            "Os": "linux",
            "Arch": self._core.host.architecture,
            "BuildTime": "",
            "PythonVersion": platform.python_version(),
        }

    async def disk_usage(self) -> dict[str, int]:
        layers = self._database.row("SELECT coalesce(sum(size), 0) FROM layers")
        return {"LayersSize": layers[0] if layers else 0, "BuilderSize": 0}

    async def plugins(self) -> Sequence[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {
                "Kind": driver.kind.value,
                "Name": driver.spec.name,
                "Summary": driver.spec.summary,
                "Plugin": driver.plugin.name,
                "Distribution": driver.plugin.distribution,
                "Version": driver.plugin.version,
                "Factory": driver.spec.factory,
                "Priority": driver.spec.priority,
                "ApiVersion": driver.spec.api_version,
                "Capabilities": sorted(driver.spec.capabilities),
                "Status": driver.status,
                "Reason": driver.reason,
                "Traceback": driver.traceback,
            }
            for driver in self._table.drivers
        ]
        broken = [plugin for plugin in self._table.plugins if plugin.status != "ok"]
        return rows + [
            {
                "Kind": "plugin",
                "Name": plugin.name,
                "Summary": "",
                "Plugin": plugin.name,
                "Distribution": plugin.distribution,
                "Version": plugin.version,
                "Factory": plugin.module,
                "Priority": 0,
                "ApiVersion": 0,
                "Capabilities": [],
                "Status": plugin.status,
                "Reason": plugin.reason,
                "Traceback": plugin.traceback,
            }
            for plugin in broken
        ]


def _kind(word: str) -> Any:
    from hooper.api.specs import Kind

    return Kind(word)


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
