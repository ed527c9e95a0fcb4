"""ARG: which variables a stage sees, and with which values (Dockerfile reference, ARG)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PREDEFINED = frozenset((*_PROXIES, *(name.lower() for name in _PROXIES)))
"""They need no ARG, and unless one declares them they are no part of the cache key or the history."""

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm/v6"}


def platform_arguments(target: str, host_architecture: str) -> dict[str, str]:
    """TARGETPLATFORM and its like. `target` is "os/architecture[/variant]" or "" for the host's."""
    build = f"linux/{host_architecture}"
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target or build)):
        system, _, rest = platform.lower().partition("/")
        architecture, _, variant = (rest or host_architecture).partition("/")
        architecture = _MACHINES.get(architecture, architecture)
        values[f"{prefix}PLATFORM"] = "/".join(part for part in (system, architecture, variant) if part)
        values[f"{prefix}OS"] = system
        values[f"{prefix}ARCH"] = architecture
        values[f"{prefix}VARIANT"] = variant
    return values


@dataclass
class Arguments:
    """The arguments of a build: what the caller gave, what stands before the first FROM, and who used what."""

    given: Mapping[str, str | None]
    platform: Mapping[str, str]
    globals: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def declare_global(self, name: str, default: str | None) -> None:
        value = self._given(name)
        if value is None:
            value = default if default is not None else self.platform.get(name)
        if value is not None:
            self.globals[name] = value

    def lookup_global(self, name: str) -> str | None:
        return self.globals.get(name, self.platform.get(name))

    def stage_value(self, name: str, default: str | None) -> str | None:
        """What ARG gives a stage; None if it stays unset."""
        value = self._given(name)
        if value is not None:
            return value
        if default is not None:
            return default
        return self.lookup_global(name)

    def proxies(self) -> dict[str, str]:
        """The given predefined ones."""
        found = {}
        for name in sorted(PREDEFINED & self.given.keys()):
            value = self._given(name)
            if value is not None:
                found[name] = value
        return found

    def unused(self) -> list[str]:
        return sorted(name for name in self.given if name not in self.used and name not in PREDEFINED)

    def _given(self, name: str) -> str | None:
        if name in self.given:
            self.used.add(name)
        return self.given.get(name)
