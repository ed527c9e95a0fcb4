"""--sysctl: only settings that belong to a namespace of the container's own; the others are the host's."""

from __future__ import annotations

from hooper.api.errors import InvalidArgument
from hooper.api.model import HostConfig

_OF_IPC = frozenset(
    f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)


def check(host: HostConfig) -> None:
    """InvalidArgument names the setting."""
    for key in host.sysctls or ():
        if ".." in key or key.startswith(("/", ".")) or not key.isprintable():
            raise InvalidArgument(f'invalid sysctl "{key}"', remedy="Write its name as sysctl -a shows it.")
        # In the form with slashes, dots belong to the names of interfaces.
        parts = key.split("/") if "/" in key and "." not in key.partition("/")[0] else key.replace("/", ".").split(".")
        name = ".".join(parts)
        if parts[0] == "net":
            _own(key, host.network_mode == "host", "network")
        elif name in _OF_IPC or name.startswith("fs.mqueue."):
            _own(key, host.ipc_mode == "host", "IPC")
        elif name == "kernel.domainname":
            _own(key, host.uts_mode == "host", "UTS")
        else:
            remedy = "Give the name with --hostname." if name == "kernel.hostname" else "Set it on the host: sysctl -w."
            raise InvalidArgument(f'sysctl "{key}" is not in a separate kernel namespace', remedy=remedy)


def _own(key: str, is_host: bool, namespace: str) -> None:
    if is_host:
        raise InvalidArgument(
            f"sysctl '{key}' not allowed in host {namespace} namespace",
            remedy=f"Give the container a {namespace} namespace of its own, or set it on the host.",
        )
