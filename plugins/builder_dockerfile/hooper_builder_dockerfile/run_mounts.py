"""RUN --mount: from the options to the mounts of the graph. (Dockerfile reference: RUN --mount.)"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from hooper.api.build_graph import BindMount, CacheMount, Node, RunMount, SecretMount, SshMount, TmpfsMount
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.mounts import Mount, resolve
from hooper_builder_dockerfile.scope import Scope

_CACHE_MODE, _SECRET_MODE, _SSH_MODE = 0o755, 0o400, 0o600


class MountPlanner:
    """`find` gives the node of a name in from=, "" is the build context. `namespace` goes before ids of caches."""

    def __init__(self, find: Callable[[str], Node], namespace: str) -> None:
        self._find, self._namespace = find, namespace

    def mounts(self, step: ins.Run, scope: Scope) -> Sequence[RunMount]:
        """Fault for an option that is wrong once its variables are expanded."""
        return [self._mount(resolve(flag, scope.expand), scope) for flag in step.mounts]

    def _mount(self, mount: Mount, scope: Scope) -> RunMount:
        match mount.type:
            case "cache":
                return self._cache(mount, scope)
            case "tmpfs":
                return TmpfsMount(target=_target(mount.target, scope), size=mount.size)
            case "secret":
                return _secret(mount, scope)
            case "ssh":
                return _ssh(mount, scope)
        return BindMount(
            target=_target(mount.target, scope),
            source=self._find(mount.from_),
            path=_path(mount.source),
            read_only=mount.read_only,
        )

    def _cache(self, mount: Mount, scope: Scope) -> CacheMount:
        target = _target(mount.target, scope)
        cache_id = mount.id or posixpath.normpath(mount.target)
        return CacheMount(
            target=target,
            id=f"{self._namespace}/{cache_id}" if self._namespace else cache_id,
            sharing=mount.sharing or "shared",
            read_only=mount.read_only,
            source=self._find(mount.from_) if mount.from_ else None,
            path=_path(mount.source),
            mode=_CACHE_MODE if mount.mode is None else mount.mode,
            uid=mount.uid or 0,
            gid=mount.gid or 0,
        )


def _secret(mount: Mount, scope: Scope) -> SecretMount:
    secret_id = mount.id or mount.source or posixpath.basename(mount.target.rstrip("/"))
    target = mount.target
    if not target and mount.env is None:
        target = f"/run/secrets/{posixpath.basename(secret_id)}"
    return SecretMount(
        id=secret_id,
        target=_target(target, scope) if target else "",
        env="" if mount.env is None else mount.env or secret_id,
        required=mount.required,
        mode=_SECRET_MODE if mount.mode is None else mount.mode,
        uid=mount.uid or 0,
        gid=mount.gid or 0,
    )


def _ssh(mount: Mount, scope: Scope) -> SshMount:
    return SshMount(
        id=mount.id or "default",
        target=_target(mount.target, scope) if mount.target else "",
        required=mount.required,
        mode=_SSH_MODE if mount.mode is None else mount.mode,
        uid=mount.uid or 0,
        gid=mount.gid or 0,
    )


def _target(text: str, scope: Scope) -> str:
    """Absolute and clean; a relative one goes on from the working directory."""
    path = clean(posixpath.join("/", scope.config.working_dir, text))
    if path == "/":
        raise Fault(f'invalid mount target "{text}"', "Mount at a directory below /.", text)
    return path


def clean(path: str) -> str:
    """An absolute path without "..", ".", and doubled slashes."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _path(source: str) -> str:
    """Within a node's tree; "" is all of it."""
    return clean(source).lstrip("/")
