"""What is in an archive of images, by name."""

from __future__ import annotations

import os

from hooper.content.tar import FILE, HARDLINK, SYMLINK, Entry, damaged

_MOST = 1 << 28
"""Bytes that names may take in memory, about: it is room for a million."""
_BESIDES = 128
"""What an entry takes besides its names."""


class ArchiveNames:
    """Takes the entries of an archive, in order. `links` are where symbolic and hard links lead, by name; no name of
    an archive leads out of it, as none is ever opened."""

    def __init__(self) -> None:
        self.links: dict[str, str] = {}
        self._taken = 0

    def take(self, entry: Entry) -> str:
        """The name of a regular file, "" of another entry. DataLoss if there are more than images can have."""
        self._taken += len(entry.name) + len(entry.link) + _BESIDES
        if self._taken > _MOST:
            raise damaged(entry.offset, "it has more entries than images can have")
        name = normal(entry.name)
        if entry.kind == FILE:
            return name
        if entry.kind == SYMLINK:
            self.links[name] = os.path.normpath(os.path.join(os.path.dirname(name), normal(entry.link)))
        elif entry.kind == HARDLINK:
            self.links[name] = normal(entry.link)
        return ""


def normal(name: bytes) -> str:
    """A name without "." and doubled "/"; what is no UTF-8 is replaced."""
    return os.path.normpath(name.decode("utf-8", "replace"))
