"""JSON of the API with the types that docker's own structures have, as far as they show in a template.

In JSON a map and a structure look alike, and so do all kinds of nothing; Go prints them differently:
`map[80/tcp:[{127.0.0.1 8080}]]`, `[]`, `<nil>`.
"""

from __future__ import annotations

from typing import Any


class Nil:
    """Nothing, of a type whose nothing Go prints as `text`. It is false, and null in JSON."""

    __slots__ = ("text",)

    def __init__(self, text: str = "<nil>") -> None:
        self.text = text

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Nil)

    def __hash__(self) -> int:
        return hash(None)


class Struct(dict[str, Any]):
    """A structure: what lacks in it is a mistake, unless it is optional."""


class Map(dict[str, Any]):
    """A map: anything may lack in it."""


_MAPS = frozenset(
    "Annotations AuxiliaryAddresses AuxAddress Containers Data DriverOpts ExposedPorts Labels Networks "
    "Options PortBindings Ports StorageOpt Sysctls Tmpfs Volumes Status Services Runtimes".split()
)
_POINTERS = frozenset(
    "Healthcheck Health OomKillDisable PidsLimit Init MemorySwappiness IPAMConfig SizeRw SizeRootFs StopTimeout "
    "UsageData ClusterVolume Descriptor BindOptions VolumeOptions TmpfsOptions ConsoleSize EnableIPv4".split()
)
_OPTIONAL = {
    **dict.fromkeys(("Health", "Healthcheck", "SizeRw", "SizeRootFs", "StopTimeout", "Descriptor", "UsageData")),
    "ClusterVolume": None,
    **dict.fromkeys(("StopSignal", "MacAddress", "Author", "Variant", "OsVersion", "IPRange", "Gateway"), ""),
    **dict.fromkeys(("NetworkDisabled", "ArgsEscaped"), False),
    **dict.fromkeys(("Tmpfs", "Sysctls", "StorageOpt", "Annotations", "Mounts", "Shell", "AuxAddress", "Driver")),
}
"""Fields that the API leaves out where they are empty, and what they are then."""


def typed(value: Any, key: str = "") -> Any:
    """Decoded JSON with its mappings as Struct or Map and its nulls as Nil; `key` is the field that it is in."""
    if isinstance(value, dict):
        kind = Map if key in _MAPS else Struct
        return kind({name: typed(item, name if kind is Struct else "") for name, item in value.items()})
    if isinstance(value, list):
        return [typed(item) for item in value]
    return nothing(key) if value is None else value


def nothing(key: str) -> Nil:
    """The empty value of a field that is a pointer, a map or a list."""
    if key in _MAPS:
        return Nil("map[]")
    return Nil() if key in _POINTERS else Nil("[]")


def optional(value: Any, name: str) -> tuple[bool, Any]:
    """(whether a mapping that has no such key has such a field all the same, its value)."""
    if isinstance(value, Map):
        return True, None
    if not isinstance(value, Struct):
        return False, None
    for key, item in value.items():
        # Go's name of a field and JSON's differ in this alone: ID and Id, NanoCPUs and NanoCpus.
        if key.lower() == name.lower():
            return True, item
    if name not in _OPTIONAL:
        return False, None
    empty = _OPTIONAL[name]
    return True, nothing(name) if empty is None else empty
