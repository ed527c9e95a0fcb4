"""Volumes as directories: data_dir/<name>/_data.

The options are those of Docker's driver of the same name: `type`, `device` and `o` describe a mount. Of them a
bind of a directory of this host is there (`type=none`, `o=bind`): the volume then *is* that directory.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread

from hooper.api.errors import InvalidArgument, NotFound, Unsupported
from hooper.api.volume import VolumeDriver

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_OPTIONS = ("type", "device", "o")
_BIND = "bind"
"""Name, in the volume's directory, of the symbolic link to the directory that it is bound to."""


def _bound(name: str, options: Mapping[str, str]) -> Path | None:
    """The directory of this host that the options ask for, or None for one of the volume's own."""
    for key in options:
        if key not in _OPTIONS:
            raise InvalidArgument(
                f"cannot create volume {name}", f'unknown option "{key}"', f"There are: {', '.join(_OPTIONS)}."
            )
    if not any(options.values()):
        return None
    words = [word for word in options.get("o", "").split(",") if word]
    if options.get("type", "none") not in ("none", _BIND, "") or not {_BIND, "rbind"}.intersection(words):
        raise Unsupported(
            f"cannot create volume {name}",
            f'a mount of type "{options.get("type", "")}" with options "{options.get("o", "")}"',
            "Use type=none, o=bind and device=/a/directory; or mount it on the host and bind that. A tmpfs"
            " is had by --tmpfs.",
        )
    if rest := [word for word in words if word not in (_BIND, "rbind", "rw")]:
        raise Unsupported(f"cannot create volume {name}", f'mount option "{rest[0]}"', "Use o=bind alone.")
    device = options.get("device", "")
    if not device.startswith("/"):
        raise InvalidArgument(
            f"cannot create volume {name}", f'device "{device}" is no absolute path', "Give device=/a/directory."
        )
    return Path(device)


def _delete(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


class LocalVolumes(VolumeDriver):
    def _directory(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or len(name) > 255:
            raise InvalidArgument(
                f'"{name}" cannot be the name of a volume',
                f"a name matches {_NAME.pattern}",
                "To bind a directory of the host, give its absolute path.",
            )
        return self.context.data_dir / name

    def _content(self, name: str) -> Path:
        directory = self._directory(name)
        link = directory / _BIND
        return Path(os.readlink(link)) if link.is_symlink() else directory / "_data"

    async def create(self, name: str, options: Mapping[str, str]) -> Path:
        directory = self._directory(name)
        bound = _bound(name, options)
        directory.mkdir(mode=0o701, parents=True, exist_ok=True)
        if bound is None:
            content = directory / "_data"
            if not content.exists():
                content.mkdir()
                content.chmod(0o755)
        elif not (directory / _BIND).is_symlink():
            (directory / _BIND).symlink_to(bound)
        return self._content(name)

    async def remove(self, name: str) -> None:
        directory = self._directory(name)
        # Renamed first, so that the name is free even if deleting is interrupted; "~" is in no volume's name.
        trash = directory.with_name(f"~{name}-{os.urandom(4).hex()}")
        try:
            directory.rename(trash)
        except FileNotFoundError:
            return
        await anyio.to_thread.run_sync(_delete, trash)

    async def open(self) -> None:
        for leftover in self.context.data_dir.glob("~*"):
            await anyio.to_thread.run_sync(_delete, leftover)

    async def mount(self, name: str, container_id: str) -> Path:
        content = self._content(name)
        if not content.is_dir():
            raise NotFound(f"volume {name} has no directory {content}", remedy="Make the directory, or another volume.")
        return content

    async def unmount(self, name: str, container_id: str) -> None:
        """Nothing was mounted."""
