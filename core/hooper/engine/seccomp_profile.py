"""Docker's seccomp profile files (--security-opt seccomp=FILE; clients send the file's content)."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from typing import Any

from hooper.api import oci
from hooper.api.errors import InvalidArgument

ACTIONS = frozenset(f"SCMP_ACT_{name}" for name in "KILL KILL_THREAD KILL_PROCESS TRAP ERRNO TRACE LOG ALLOW".split())
OPERATORS = frozenset(f"SCMP_CMP_{name}" for name in "NE LT LE EQ GE GT MASKED_EQ".split())


def parse(text: str, capabilities: Iterable[str], architecture: str, kernel: tuple[int, int]) -> oci.Seccomp:
    """The rules that hold for these capabilities on this host."""
    try:
        profile = json.loads(text)
        syscalls = [
            rule
            for entry in profile.get("syscalls") or ()
            if (rule := _rule(entry, set(capabilities), architecture, kernel)) is not None
        ]
        return oci.Seccomp(
            default_action=_known(profile["defaultAction"], ACTIONS),
            default_errno_ret=profile.get("defaultErrnoRet"),
            architectures=profile.get("architectures") or [],
            syscalls=syscalls,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(
            "decoding the seccomp profile failed",
            str(error),
            "It must be JSON with defaultAction and syscalls, as `man seccomp_rule_add` names them.",
        ) from error


def _rule(entry: dict[str, Any], caps: set[str], architecture: str, kernel: tuple[int, int]) -> oci.Syscall | None:
    if not _holds(entry.get("includes") or {}, caps, architecture, kernel, default=True):
        return None
    excludes = entry.get("excludes") or {}
    if excludes and _holds(excludes, caps, architecture, kernel, default=False):
        return None
    args = [
        oci.SyscallArg(
            index=int(a["index"]), value=int(a["value"]), op=_known(a["op"], OPERATORS), value_two=a.get("valueTwo", 0)
        )
        for a in entry.get("args") or ()
    ]
    names = entry.get("names") or [entry["name"]]
    return oci.Syscall(names=names, action=_known(entry["action"], ACTIONS), args=args, errno_ret=entry.get("errnoRet"))


def _known(word: str, words: Container[str]) -> str:
    if word not in words:
        raise ValueError(f"{word} is not known")
    return word


def _holds(
    condition: dict[str, Any], caps: set[str], architecture: str, kernel: tuple[int, int], *, default: bool
) -> bool:
    """`default` True: all parts must hold (includes); False: any part (excludes)."""
    parts = []
    if condition.get("caps"):
        have = [cap in caps for cap in condition["caps"]]
        parts.append(all(have) if default else any(have))
    if condition.get("arches"):
        parts.append(architecture in condition["arches"])
    if condition.get("minKernel"):
        major, minor = condition["minKernel"].split(".")[:2]
        parts.append(kernel >= (int(major), int(minor)))
    return all(parts) if default else any(parts)
