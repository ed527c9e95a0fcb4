"""ARG: which variables a stage sees, and with which values (Dockerfile reference, ARG)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hooper.api.errors import InvalidArgument
from hooper.api.manifests import parse_platform, platform_name
from hooper.api.registry import Platform

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PROXIES = frozenset((*_PROXIES, *(name.lower() for name in _PROXIES)))
"""They need no ARG, and unless one declares them they are no part of the cache key or the history."""

_FOR_THE_BUILDER = ("BUILDKIT_", "SOURCE_DATE_EPOCH")
"""What begins so tells the builder something, whether a recipe declares it or not."""

NO_VARIABLES = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")
"""Arguments that an ARG does not make a variable."""

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_VARIANTS = {"arm64": "v8", "amd64": "v1"}
"""The variants that need no name."""


def normalized(platform: str) -> Platform:
    """ "arm64/v8" as linux/arm64, "arm" as linux/arm/v7. InvalidArgument for what is no platform."""
    parsed = parse_platform(platform)
    variant = parsed.variant
    if variant == _VARIANTS.get(parsed.architecture):
        variant = ""
    elif parsed.architecture == "arm" and not variant:
        variant = "v7"
    return Platform(os=parsed.os, architecture=parsed.architecture, variant=variant)


def predefined(target: str, host: str, stage: str) -> dict[str, str]:
    """TARGETPLATFORM and its like. Platforms are "os/architecture[/variant]"; `stage` is the target's name, or ""."""
    values: dict[str, str] = {}
    for prefix, text in (("BUILD", host), ("TARGET", target or host)):
        platform = normalized(text)
        values[f"{prefix}PLATFORM"] = platform_name(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}OSVERSION"] = ""
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant
    values["TARGETSTAGE"] = stage or "default"
    return values


@dataclass
class Arguments:
    """The arguments of a build: what the caller gave, what there is anyway, and what stands before the first FROM."""

    given: Mapping[str, str | None]
    """None is a name without a value, as if it were not given."""
    predefined: Mapping[str, str]
    globals: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    """What any ARG of the recipe names."""

    def declare_global(self, name: str, default: str | None) -> None:
        """ARG before the first FROM; `default` is expanded."""
        value = self.given.get(name)
        if value is None:
            value = default if default is not None else self.predefined.get(name)
        if value is not None:
            self.globals[name] = value

    def lookup_global(self, name: str) -> str | None:
        """What a variable is worth in FROM."""
        if name in self.globals:
            return self.globals[name]
        if name not in self.predefined:
            return None
        given = self.given.get(name)
        return self.predefined[name] if given is None else given

    def stage_value(self, name: str, default: str | None) -> str | None:
        """What ARG gives a stage; None if it stays unset."""
        value = self.given.get(name)
        if value is not None:
            return value
        return default if default is not None else self.lookup_global(name)

    def proxies(self) -> dict[str, str]:
        """The given predefined ones, each in both cases: programs ask for one or the other."""
        found: dict[str, str] = {}
        for name in sorted(PROXIES & self.given.keys()):
            value = self.given[name]
            if value is not None:
                for case in (name.upper(), name.lower()):
                    if case == name or self.given.get(case) is None:
                        found[case] = value
        return found

    def unused(self) -> list[str]:
        """The given ones that nothing in the recipe names."""
        known = (*PROXIES, *self.predefined, *self.declared)
        return sorted(name for name in self.given if name not in known and not name.startswith(_FOR_THE_BUILDER))

    # --- what tells the builder something --------------------------------------------------------------

    @property
    def hostname(self) -> str:
        return self.given.get("BUILDKIT_SANDBOX_HOSTNAME") or ""

    @property
    def cache_namespace(self) -> str:
        """Goes before the ids of cache mounts."""
        return self.given.get("BUILDKIT_CACHE_MOUNT_NS") or ""

    @property
    def keep_git_dir(self) -> bool:
        """Contexts that are git repositories keep their .git."""
        return self.given.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR") in _TRUE

    @property
    def epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH, given or declared before the first FROM. InvalidArgument if it is no number."""
        name = "SOURCE_DATE_EPOCH"
        text = self.given.get(name)
        text = self.globals.get(name, "") if text is None else text
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise InvalidArgument(
                f'invalid {name}: "{text}"', "it is no number of seconds", "Give seconds since the epoch: 1700000000."
            )
        return int(text)
