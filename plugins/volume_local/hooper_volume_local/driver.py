"""Volumes as directories: data_dir/<name>/_data.

The options are those of Docker's driver of the same name: `type`, `device` and `o` describe a mount (mount(8)), which
is made on that directory while containers use the volume. Who uses it is kept in exec_dir, which like the mounts
themselves does not outlive the host's uptime.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Set
from pathlib import Path

import anyio
import anyio.to_thread

from hooper.api.driver import DriverContext
from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.volume import VolumeDriver
from hooper.content.removal import discard
from hooper.linux import syscalls

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_OPTIONS = ("type", "device", "o")
_FILE = "options.json"
"""In the directory of a volume that is a mount: its options."""


def check_options(name: str, options: Mapping[str, str]) -> dict[str, str]:
    """Those that are set. InvalidArgument names the wrong or missing one."""
    for key in options:
        if key == "size":
            raise InvalidArgument(
                f"create {name}: quota size requested but no quota support",
                remedy="Limit a tmpfs: type=tmpfs, device=tmpfs, o=size=1g.",
            )
        if key not in _OPTIONS:
            raise InvalidArgument(
                f'create {name}: invalid option: "{key}"', remedy=f"There are: {', '.join(_OPTIONS)}."
            )
    found = {key: value for key, value in options.items() if value}
    for key in ("device", "type") if found else ():
        if key not in found:
            raise InvalidArgument(
                f'create {name}: missing required option: "{key}"',
                remedy="For example type=tmpfs, device=tmpfs; or type=none, o=bind, device=/a/directory.",
            )
    return found


def is_mounted(directory: Path) -> bool:
    """Something is mounted on its `_data`, also a bind of the same file system."""
    parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(syscalls.openat2(parent, "_data", os.O_PATH, resolve=syscalls.RESOLVE_NO_XDEV))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return True
    finally:
        os.close(parent)
    return False


class LocalVolumes(VolumeDriver):
    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._mine: set[str] = set()
        """Containers that this process mounted something for."""

    def _directory(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or len(name) > 255:
            raise InvalidArgument(
                f'"{name}" cannot be the name of a volume',
                f"a name matches {_NAME.pattern}",
                "To bind a directory of the host, give its absolute path.",
            )
        return self.context.data_dir / name

    def _users(self, name: str) -> Path:
        return self.context.exec_dir / name

    async def create(self, name: str, options: Mapping[str, str]) -> Path:
        directory = self._directory(name)
        described = check_options(name, options)
        directory.mkdir(mode=0o701, parents=True, exist_ok=True)
        content = directory / "_data"
        if not content.exists():
            content.mkdir()
            content.chmod(0o755)
            if described:
                (directory / _FILE).write_text(json.dumps(described))
        return content

    async def remove(self, name: str) -> None:
        directory = self._directory(name)
        if (directory / _FILE).exists():
            async with self._locks[name]:
                await self._unmount(name)
            del self._locks[name]
        # Renamed first, so that the name is free even if deleting is interrupted; "~" is in no volume's name.
        trash = directory.with_name(f"~{name}-{os.urandom(4).hex()}")
        try:
            directory.rename(trash)
        except FileNotFoundError:
            return
        await anyio.to_thread.run_sync(discard, trash)

    async def open(self) -> None:
        for leftover in self.context.data_dir.glob("~*"):
            await anyio.to_thread.run_sync(discard, leftover)

    async def mount(self, name: str, container_id: str) -> Path:
        directory = self._directory(name)
        content = directory / "_data"
        if not (directory / _FILE).exists():
            if not content.is_dir():
                raise NotFound(
                    f"volume {name} has no directory {content}", remedy="Make the directory, or another volume."
                )
            return content
        async with self._locks[name]:
            self._mine.add(container_id)
            users = self._users(name)
            if not is_mounted(directory):
                options = json.loads((directory / _FILE).read_text())
                arguments = {"name": name, "target": str(content), **options}
                await self.context.workers.run("hooper_volume_local.mounting:mount", arguments)
            users.mkdir(parents=True, exist_ok=True)
            (users / container_id).touch()
        return content

    async def unmount(self, name: str, container_id: str) -> None:
        users = self._users(name)
        if not users.is_dir():
            return
        async with self._locks[name]:
            self._mine.discard(container_id)
            (users / container_id).unlink(missing_ok=True)
            if not any(users.iterdir()):
                await self._unmount(name)

    async def _unmount(self, name: str) -> None:
        """What is mounted is others' content: it must be gone before anything is deleted here."""
        content = self._directory(name) / "_data"
        await self.context.workers.run("hooper_volume_local.mounting:unmount", {"target": str(content)})
        await anyio.to_thread.run_sync(discard, self._users(name))

    async def reconcile(self, live: Set[str]) -> None:
        for users in self.context.exec_dir.iterdir():
            for user in list(users.iterdir()):
                if user.name not in live and user.name not in self._mine:
                    await self.unmount(users.name, user.name)
