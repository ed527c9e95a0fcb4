"""From a driver's name, or `auto`, to a driver that is ready."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from hooper.api.driver import Driver, HostInfo
from hooper.api.errors import HooperError, InvalidArgument, SkipDriver, Unsupported
from hooper.api.isolation import IsolationBackend
from hooper.api.logs import LogDriver
from hooper.api.specs import DriverSpec, Kind
from hooper.config import Config
from hooper.plugins.manager import DriverRecord, PluginTable


def imported(path: str) -> Any:
    """What "module:attribute" names."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def driver_config(spec: DriverSpec, kind: Kind, config: Config) -> Any:
    """The driver's settings, checked by its own struct; None for a driver without settings."""
    table = config.driver_table(kind, spec.name)
    if not spec.config:
        if table:
            raise InvalidArgument(
                f"configuration [{kind}.{spec.name}]", "this driver has no settings", "Remove the table."
            )
        return None
    struct = imported(spec.config)
    known = {field.encode_name for field in msgspec.structs.fields(struct)}
    for key in table:
        if key not in known:
            raise _unknown(kind, spec.name, key, known)
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"configuration [{kind}.{spec.name}]", str(error), "Correct that value.") from error


def _unknown(kind: Kind, driver: str, key: str, known: set[str]) -> InvalidArgument:
    import difflib

    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    remedy = f'Did you mean "{kind}.{driver}.{near[0]}"?' if near else f"It has: {', '.join(sorted(known))}."
    return InvalidArgument(f'unknown configuration key "{kind}.{driver}.{key}"', remedy=remedy)


class Selector:
    """Chooses drivers of one host. `make` builds a driver from (kind, spec, settings)."""

    def __init__(
        self, table: PluginTable, config: Config, make: Callable[[Kind, DriverSpec, Any], Any], host: HostInfo
    ) -> None:
        self.table, self.config, self._make, self._host = table, config, make, host
        self._isolation: dict[str, tuple[DriverRecord, IsolationBackend]] = {}

    async def choose(self, kind: Kind, name: str = "") -> tuple[DriverRecord, Any]:
        """The record and the opened driver that `name`, or else the configuration, asks for.

        Unsupported, with the names that would work, if it cannot be had.
        """
        name = name or self.config[f"{kind}.driver"]
        if name != "auto":
            return await self._named(kind, name)
        for record in self.table.of(kind):
            if record.usable and record.spec.priority >= 0:
                driver = await self.attempt(record)
                if driver is not None:
                    return record, driver
        raise self._none(kind, f"no {kind} driver works on this host")

    async def choose_isolation(self, name: str) -> tuple[DriverRecord, IsolationBackend]:
        """As `choose`, for a container's runtime; each is made once."""
        if name not in self._isolation:
            self._isolation[name] = await self.choose(Kind.ISOLATION, name)
        return self._isolation[name]

    def declared(self, kind: Kind) -> list[tuple[str, str, Any]]:
        """(name, factory, settings) of every driver of a kind that is not put aside, probed or not."""
        return [
            (record.spec.name, record.spec.factory, driver_config(record.spec, kind, self.config))
            for record in self.table.of(kind)
            if record.usable
        ]

    async def every(self, kind: Kind, *, automatic: bool = False) -> dict[str, Any]:
        """All drivers of a kind that work here, opened, by name; `automatic`: without those that must be named."""
        found = {}
        for record in self.table.of(kind):
            if automatic and record.spec.priority < 0:
                continue
            if record.usable and (driver := await self.attempt(record)) is not None:
                found[record.spec.name] = driver
        return found

    def claiming(self, kind: Kind, what: str, name: str) -> str:
        """The first driver of a kind with a capability "WHAT:PATTERN" (fnmatch) for the name; "" if there is none."""
        for record in self.table.of(kind):
            patterns = (text.partition(":")[2] for text in record.spec.capabilities if text.startswith(f"{what}:"))
            if record.usable and any(fnmatchcase(name, pattern) for pattern in patterns):
                return record.spec.name
        return ""

    def capable(self, kind: Kind, capability: str) -> str:
        """The first driver of a kind that was found to work and has the capability; "" if there is none."""
        names = (r.spec.name for r in self.table.of(kind) if r.status == "active" and capability in r.spec.capabilities)
        return next(names, "")

    async def attempt(self, record: DriverRecord) -> Any | None:
        """The opened driver, or None with the reason in its record. Wrong settings are fatal."""
        settings = None
        try:
            settings = driver_config(record.spec, record.kind, self.config)
            driver = self._make(record.kind, record.spec, settings)
            await _probe(driver, self._host)
            if isinstance(driver, Driver):
                await driver.open()
        except SkipDriver as error:
            record.fail("skipped", error)
        except InvalidArgument:
            raise
        # Anything may come out of a third party's driver; `doctor` shows it.
        except Exception as error:
            record.fail("error", error)
        else:
            record.status = "active"
            return driver
        return None

    async def _named(self, kind: Kind, name: str) -> tuple[DriverRecord, Any]:
        record = self.table.find(kind, name)
        if record is None:
            raise self._none(kind, f'there is no {kind} driver "{name}"')
        driver = await self.attempt(record) if record.usable else None
        if driver is None:
            raise self._none(kind, f'the {kind} driver "{name}" cannot be used: {record.reason}')
        return record, driver

    def _none(self, kind: Kind, what: str) -> HooperError:
        others = [record.spec.name for record in self.table.of(kind) if record.usable]
        failed = [f"{r.spec.name}: {r.reason}" for r in self.table.of(kind) if not r.usable]
        remedy = f"These could be used: {', '.join(others)}. " if others else ""
        return Unsupported(what, "; ".join(failed), f"{remedy}`hooper plugin doctor` tells more.")


async def _probe(driver: Any, host: HostInfo) -> None:
    answer: Awaitable[None] | None = None
    if isinstance(driver, IsolationBackend):
        driver.probe(host)
    elif isinstance(driver, LogDriver):
        driver.probe()
    elif isinstance(driver, Driver):
        answer = driver.probe()
    if answer is not None:
        await answer
