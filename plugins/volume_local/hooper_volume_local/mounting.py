"""The mount that a volume's options describe. Runs in a worker, for a server that does not answer would stop it.

It is made in the host's mount namespace, for containers find it there.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from hooper.api.errors import InvalidArgument
from hooper.linux import syscalls
from hooper.linux.mount_options import parse

_NETWORKED = ("nfs", "nfs4", "cifs", "smb3")


def mount(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Mounts `device` of the file system `type` on `target` with the options `o`; `name` is the volume's.

    InvalidArgument says what the kernel did not like.
    """
    kind, device, target = arguments["type"], arguments["device"], arguments["target"]
    words = [word for word in arguments.get("o", "").split(",") if word]
    options = parse(words)
    try:
        data = ",".join(_resolved(options.data) if kind in _NETWORKED else options.data)
        _mount(device, target, kind, options.flags, data)
        for propagation in options.propagation:
            syscalls.mount(None, target, None, propagation)
    except OSError as error:
        text = (error.strerror or str(error)).lower()
        raise InvalidArgument(
            f"error while mounting volume '{target}'",
            f"failed to mount local volume: mount {device}:{target}{f', data: {data}' if data else ''}: {text}",
            _remedy(error, arguments["name"]),
        ) from error


def _mount(device: str, target: str, kind: str, flags: int, data: str) -> None:
    if not flags & syscalls.MS_BIND:
        syscalls.mount(device, target, kind, flags, data)
        return
    syscalls.mount(device, target, None, flags & (syscalls.MS_BIND | syscalls.MS_REC))
    # A bind takes no other flags at first (mount(2)).
    if more := flags & ~(syscalls.MS_BIND | syscalls.MS_REC):
        try:
            syscalls.mount(None, target, None, more | syscalls.MS_BIND | syscalls.MS_REMOUNT)
        except OSError:
            syscalls.umount(target, syscalls.MNT_DETACH)
            raise


def _resolved(words: Sequence[str]) -> list[str]:
    """The kernel takes addresses, not names."""
    found = []
    for word in words:
        key, _, value = word.partition("=")
        if key == "addr" and value:
            try:
                address = socket.getaddrinfo(value, None, type=socket.SOCK_STREAM)[0][4][0]
            except socket.gaierror as error:
                raise OSError(errno.EHOSTUNREACH, f"{value}: {error.strerror}") from error
            word = f"{key}={address}"
        found.append(word)
    return found


def _remedy(error: OSError, name: str) -> str:
    if error.errno == errno.ENOENT:
        return "Make the device or directory first."
    if error.errno == errno.ENODEV:
        return "This kernel does not have that file system; `cat /proc/filesystems` lists what it has."
    return f"Make the volume anew with other options: `hooper volume rm {name}`, then `hooper volume create`."


def unmount(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Undoes what is mounted at `target`; harmless if it is nothing. Processes that still use it go on."""
    while True:
        try:
            syscalls.umount(arguments["target"], syscalls.MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # EINVAL: nothing is mounted there any more
                raise
            return
