"""Loading plugins, each in a quarantine of its own, and the table of the drivers that they name."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy

from hooper.api.specs import API_VERSION, DriverSpec, Kind
from hooper.hookspecs import PLUGIN_GROUP, EngineHooks

HOOKS = {
    "hooper_register_storage_drivers": Kind.STORAGE,
    "hooper_register_network_drivers": Kind.NETWORK,
    "hooper_register_isolation_backends": Kind.ISOLATION,
    "hooper_register_registries": Kind.REGISTRY,
    "hooper_register_builders": Kind.BUILDER,
    "hooper_register_api_frontends": Kind.FRONTEND,
    "hooper_register_log_drivers": Kind.LOG,
    "hooper_register_volume_drivers": Kind.VOLUME,
    "hooper_register_event_subscribers": Kind.SUBSCRIBER,
    "hooper_register_image_policies": Kind.POLICY,
}


@dataclass
class PluginRecord:
    """A plugin that was found. `status`: ok, disabled, incompatible or error."""

    name: str
    module: str
    distribution: str
    version: str
    status: str = "ok"
    reason: str = ""
    traceback: str = ""


@dataclass
class DriverRecord:
    """A driver that a plugin names. `status`: available, active, skipped, incompatible or error."""

    kind: Kind
    spec: DriverSpec
    plugin: PluginRecord
    status: str = "available"
    reason: str = ""
    traceback: str = ""

    @property
    def usable(self) -> bool:
        return self.status in ("available", "active")

    def fail(self, status: str, error: BaseException | str) -> None:
        """Puts the driver aside, with the reason."""
        self.status, self.reason = status, str(error)
        if isinstance(error, BaseException) and status == "error":
            self.traceback = "".join(traceback.format_exception(error))


@dataclass
class PluginTable:
    """What was found on this host."""

    plugins: list[PluginRecord] = field(default_factory=list)
    drivers: list[DriverRecord] = field(default_factory=list)

    def of(self, kind: Kind) -> list[DriverRecord]:
        """The drivers of a kind, those that `auto` tries first at the front."""
        found = [driver for driver in self.drivers if driver.kind is kind]
        return sorted(found, key=lambda driver: (-driver.spec.priority, driver.spec.name))

    def find(self, kind: Kind, name: str) -> DriverRecord | None:
        return next((driver for driver in self.of(kind) if driver.spec.name == name), None)


def load_plugins(disabled: Iterable[str] = (), find: Callable[[], Iterable[EntryPoint]] | None = None) -> PluginTable:
    """Imports every plugin of the entry point group and asks it for its drivers.

    Whatever one of them does wrong stays in its own record.
    """
    table, manager = PluginTable(), pluggy.PluginManager("hooper")
    manager.add_hookspecs(EngineHooks)
    points = find() if find else entry_points(group=PLUGIN_GROUP)
    for point in sorted({(point.name, point.value): point for point in points}.values(), key=lambda p: p.name):
        record = _record(point)
        table.plugins.append(record)
        if point.name in set(disabled):
            record.status, record.reason = "disabled", "named in plugins.disabled"
            continue
        _load(manager, point, record, table)
    return table


def _record(point: EntryPoint) -> PluginRecord:
    dist = point.dist
    return PluginRecord(point.name, point.value, dist.name if dist else "", dist.version if dist else "")


def _load(manager: pluggy.PluginManager, point: EntryPoint, record: PluginRecord, table: PluginTable) -> None:
    # A plugin may raise whatever it likes, also SystemExit at import: it costs the host that plugin alone.
    try:
        plugin = point.load()
        if unknown := _unknown_hooks(plugin):
            record.status = "incompatible"
            record.reason = f"this hooper has no hook {', '.join(unknown)}; the plugin may be for another version"
            return
        manager.register(plugin, point.name)
        for hook, kind in HOOKS.items():
            for implementation in getattr(manager.hook, hook).get_hookimpls():
                if implementation.plugin is plugin:
                    _add(table, record, kind, implementation.function())
    except (Exception, SystemExit) as error:
        record.status, record.reason = "error", f"{type(error).__name__}: {error}"
        record.traceback = traceback.format_exc()
        table.drivers[:] = [driver for driver in table.drivers if driver.plugin is not record]


def _unknown_hooks(plugin: ModuleType | Any) -> list[str]:
    marked = [name for name in dir(plugin) if hasattr(getattr(plugin, name, None), "hooper_impl")]
    return [name for name in marked if name not in HOOKS]


def _add(table: PluginTable, record: PluginRecord, kind: Kind, specs: Iterable[DriverSpec]) -> None:
    for spec in specs:
        if not isinstance(spec, DriverSpec):
            raise TypeError(f"a hook for {kind} drivers gave {spec!r}, not a DriverSpec")
        driver = DriverRecord(kind, spec, record)
        other = table.find(kind, spec.name)
        if spec.api_version != API_VERSION:
            driver.fail("incompatible", f"it is for version {spec.api_version} of hooper.api; this is {API_VERSION}")
        elif other:
            driver.fail("error", f"the plugin {other.plugin.name} already brings a {kind} driver of this name")
        table.drivers.append(driver)
