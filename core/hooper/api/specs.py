"""How a plugin tells the engine what it brings: a `DriverSpec` a driver, nothing imported yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

API_VERSION = 1
"""The version of `hooper.api`. A driver made for another one is refused, by name."""


class Kind(StrEnum):
    """The parts of the engine that are drivers; the value is the word used in configuration."""

    STORAGE = "storage"
    NETWORK = "network"
    ISOLATION = "isolation"
    REGISTRY = "registry"
    BUILDER = "builder"
    FRONTEND = "frontend"
    LOG = "log"
    VOLUME = "volume"
    SUBSCRIBER = "subscriber"
    POLICY = "policy"


@dataclass(frozen=True)
class DriverSpec:
    """One driver that a plugin offers.

    `factory` is "module:Class" and `config` "module:Struct" (a `msgspec.Struct` of the driver's
    own settings, or empty); both are imported only if the driver is selected. `priority` orders
    the drivers that `auto` tries: the highest first; a driver with a negative priority is used
    only when it is named.
    """

    name: str
    summary: str
    factory: str
    config: str = ""
    api_version: int = API_VERSION
    capabilities: frozenset[str] = field(default_factory=frozenset)
    priority: int = 0


@dataclass(frozen=True)
class CommandSpec:
    """A command that a plugin adds to the `hooper` command line.

    `factory` is "module:attribute" and names a `click.Command`; it is imported when the command
    is run or its help is asked for.
    """

    name: str
    summary: str
    factory: str
