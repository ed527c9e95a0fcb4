"""Plugins: loaded one by one, whatever one of them does."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from hooper.api.driver import Driver, DriverContext, HostInfo
from hooper.api.errors import InvalidArgument, SkipDriver, Unsupported
from hooper.api.specs import DriverSpec, Kind
from hooper.config import load
from hooper.hookspecs import hookimpl
from hooper.plugins.manager import PluginTable, load_plugins
from hooper.plugins.selection import Selector

HOST = HostInfo(True, 2, (6, 1), "amd64", Path("/nowhere"), Path("/nowhere"))


class Settings(msgspec.Struct):
    size: int = 1


class Good(Driver):
    opened = False

    async def open(self) -> None:
        self.opened = True


class Skipping(Driver):
    async def probe(self) -> None:
        raise SkipDriver("skipping", "this kernel has no such thing")


class Broken(Driver):
    async def open(self) -> None:
        raise RuntimeError("a fault of its own")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes an entry point of a module with the given hooks."""

    def make(name: str, **hooks: Any) -> EntryPoint:
        module = types.ModuleType(f"fake_plugin_{name}")
        for hook, function in hooks.items():
            function.__name__ = hook
            setattr(module, hook, hookimpl(function))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return EntryPoint(name, module.__name__, "hooper.plugins")

    return make


def storage(name: str, factory: str = "Good", **more: Any) -> DriverSpec:
    return DriverSpec(name, "a driver", f"{__name__}:{factory}", **more)


def offering(*specs: DriverSpec) -> Any:
    return lambda: list(specs)


def loaded(*points: EntryPoint, disabled: tuple[str, ...] = ()) -> PluginTable:
    return load_plugins(disabled, lambda: points)


def test_drivers_are_ordered_by_priority_then_name(plugin: Any) -> None:
    point = plugin("a", hooper_register_storage_drivers=offering(storage("z"), storage("y"), storage("x", priority=5)))
    assert [driver.spec.name for driver in loaded(point).of(Kind.STORAGE)] == ["x", "y", "z"]


def test_one_plugin_that_fails_costs_only_itself(plugin: Any) -> None:
    def fails() -> Any:
        raise SystemExit("I end the host")

    table = loaded(
        plugin("bad", hooper_register_storage_drivers=fails),
        EntryPoint("missing", "no_such_module_at_all", "hooper.plugins"),
        plugin("good", hooper_register_storage_drivers=offering(storage("fine"))),
    )
    assert {p.name: p.status for p in table.plugins} == {"bad": "error", "missing": "error", "good": "ok"}
    assert "SystemExit" in next(p for p in table.plugins if p.name == "bad").traceback
    assert [d.spec.name for d in table.drivers] == ["fine"]


def test_an_unknown_hook_and_another_api_version_are_incompatible(plugin: Any) -> None:
    table = loaded(
        plugin("future", hooper_register_teleporters=offering()),
        plugin("old", hooper_register_storage_drivers=offering(storage("old", api_version=0))),
    )
    assert table.plugins[0].status == "incompatible"
    assert "hooper_register_teleporters" in table.plugins[0].reason
    assert table.drivers[0].status == "incompatible"


def test_a_name_that_is_taken_names_the_other_plugin(plugin: Any) -> None:
    first = plugin("first", hooper_register_storage_drivers=offering(storage("same")))
    second = plugin("second", hooper_register_storage_drivers=offering(storage("same")))
    drivers = loaded(first, second).drivers
    assert [driver.usable for driver in drivers] == [True, False]
    assert "first" in drivers[1].reason


def test_a_disabled_plugin_is_not_imported() -> None:
    table = loaded(EntryPoint("off", "no_such_module_at_all", "hooper.plugins"), disabled=("off",))
    assert table.plugins[0].status == "disabled"


def chosen(table: PluginTable, name: str = "", tables: str = "") -> tuple[str, Any]:
    config = load(None, {"storage.driver": name} if name else {}, {})

    def make(kind: Kind, spec: DriverSpec, settings: Any) -> Any:
        context = DriverContext(spec.name, settings, HOST, Path(), Path(), None, None, None)  # type: ignore[arg-type]
        return globals()[spec.factory.partition(":")[2]](context)

    async def run() -> tuple[str, Any]:
        selector = Selector(table, config, make, HOST)
        record, driver = await selector.choose(Kind.STORAGE)
        return record.spec.name, driver

    return anyio.run(run)


def test_auto_takes_the_first_whose_probe_succeeds(plugin: Any) -> None:
    point = plugin(
        "a",
        hooper_register_storage_drivers=offering(
            storage("first", "Skipping", priority=9), storage("second", "Broken", priority=8), storage("third")
        ),
    )
    table = loaded(point)
    name, driver = chosen(table)
    assert name == "third" and driver.opened
    states = {d.spec.name: (d.status, d.reason) for d in table.drivers}
    assert states["first"] == ("skipped", "skipping: this kernel has no such thing")
    assert states["second"] == ("error", "a fault of its own")


def test_a_negative_priority_is_used_only_by_name(plugin: Any) -> None:
    point = plugin("a", hooper_register_storage_drivers=offering(storage("rare", priority=-1)))
    with pytest.raises(Unsupported, match="no storage driver works"):
        chosen(loaded(point))
    assert chosen(loaded(point), "rare")[0] == "rare"


def test_a_selected_driver_that_cannot_be_had_names_the_others(plugin: Any) -> None:
    point = plugin("a", hooper_register_storage_drivers=offering(storage("broken", "Broken"), storage("fine")))
    with pytest.raises(
        Unsupported, match=r'"broken" cannot be used: a fault of its own[\s\S]*These could be used: fine'
    ):
        chosen(loaded(point), "broken")
    with pytest.raises(Unsupported, match=r'no storage driver "none"[\s\S]*broken, fine'):
        chosen(loaded(point), "none")


def test_settings_are_checked_by_the_drivers_struct(plugin: Any, tmp_path: Path) -> None:
    from hooper.plugins.selection import driver_config

    spec = storage("sized", config=f"{__name__}:Settings")
    file = tmp_path / "c.toml"
    file.write_text("[storage.sized]\nsise = 3\n")
    with pytest.raises(InvalidArgument, match=r'"storage.sized.sise"[\s\S]*"storage.sized.size"'):
        driver_config(spec, Kind.STORAGE, load(file, environment={}))
    file.write_text('[storage.sized]\nsize = "large"\n')
    with pytest.raises(InvalidArgument, match="Expected `int`"):
        driver_config(spec, Kind.STORAGE, load(file, environment={}))
    file.write_text("[storage.sized]\nsize = 3\n")
    assert driver_config(spec, Kind.STORAGE, load(file, environment={})) == Settings(3)
