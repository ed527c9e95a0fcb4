"""The engine's spec, completed to a config.json that a runtime program takes."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from typing import Any

import msgspec

from hooper.api import oci
from hooper.api.errors import Unsupported
from hooper.linux import users

_INITS = ("/usr/bin/docker-init", "/usr/libexec/podman/catatonit", "/usr/bin/tini-static", "/usr/bin/tini")
_INIT_PLACE = "/sbin/docker-init"
_UNLIMITED = (1 << 64) - 1
OOM_SCORE = "/proc/self/oom_score_adj"
"""proc(5): the own one; what a process starts inherits it."""


def for_container(spec: oci.Spec, root: int, netns: str | None, *, init: bool) -> oci.Spec:
    """The document for a container. `root` is a descriptor of its root, `netns` a path or None for the host's."""
    process = for_process(spec.process, root)
    mounts = list(spec.mounts)
    if init:
        process.args = [_INIT_PLACE, "--", *process.args]
        mounts.append(
            oci.Mount(destination=_INIT_PLACE, type="bind", source=_find_init(), options=["bind", "ro", "nosuid"])
        )
    namespaces = [each for each in spec.linux.namespaces if each.type != "network" or netns is None]
    if netns is not None:
        namespaces.append(oci.Namespace(type="network", path=netns))
    linux = msgspec.structs.replace(spec.linux, namespaces=namespaces)
    return msgspec.structs.replace(spec, process=process, mounts=mounts, linux=linux)


def for_process(process: oci.Process, root: int) -> oci.Process:
    """A process whose user is a number, with HOME, and with limits that this host allows."""
    asked = process.user
    numeric = not asked.username and (asked.uid or asked.gid)
    name = f"{asked.uid}:{asked.gid}" if numeric else asked.username
    who = users.resolve(root, name, [*map(str, asked.additional_gids), *asked.group_names])
    env = process.env
    if not any(item.startswith("HOME=") and len(item) > len("HOME=") for item in env):
        env = [*env, f"HOME={who.home}"]
    return msgspec.structs.replace(
        process,
        user=oci.User(uid=who.uid, gid=who.gid, additional_gids=list(who.groups)),
        env=env,
        rlimits=[clamp(limit) for limit in process.rlimits],
        oom_score_adj=_ordinary_oom_score() if process.oom_score_adj is None else process.oom_score_adj,
        cwd=process.cwd or "/",
    )


def encode(spec: oci.Spec) -> bytes:
    """The config.json of a spec."""
    plain = msgspec.to_builtins(spec)
    plain["process"] = _with_cwd(spec.process)
    if spec.linux.seccomp:
        plain["linux"]["seccomp"] = msgspec.Raw(spec.linux.seccomp)
    return msgspec.json.encode(plain)


def encode_process(process: oci.Process) -> bytes:
    """The process.json of an exec."""
    return msgspec.json.encode(_with_cwd(process))


def _with_cwd(process: oci.Process) -> dict[str, Any]:
    """Defaults are left out, but the specification requires this one."""
    plain: dict[str, Any] = msgspec.to_builtins(process)
    return plain | {"cwd": process.cwd}


def _ordinary_oom_score() -> int:
    """0, or the present one where that is higher: lowering it takes CAP_SYS_RESOURCE.

    What protects hooper itself (OOMScoreAdjust= of its unit) is not for containers.
    """
    with open(OOM_SCORE) as file:
        return max(0, int(file.read()))


def clamp(limit: oci.Rlimit) -> oci.Rlimit:
    """Without CAP_SYS_RESOURCE no hard limit is raised, so the present one is the most."""
    number: int | None = getattr(resource, limit.type, None)
    if number is None:
        return limit
    present = resource.getrlimit(number)[1]
    most = _UNLIMITED if present == resource.RLIM_INFINITY else present
    return oci.Rlimit(type=limit.type, hard=_lower(limit.hard, most), soft=_lower(limit.soft, most))


def _lower(value: int, most: int) -> int:
    return min(value if value >= 0 else _UNLIMITED, most)


def _find_init(candidates: Sequence[str] = _INITS) -> str:
    for path in candidates:
        if os.access(path, os.X_OK):
            return path
    raise Unsupported(
        "running an init in the container (--init)",
        "this host has none to lend it",
        "Install the package tini, or use the isolation backend namespaces, which brings one.",
    )
