"""`docker diff`: a layer's tar compared with the tree that it lies on. Runs in a worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

MODIFIED, ADDED, DELETED = 0, 1, 2
_WHITEOUT = ".wh."


def changes(arguments: dict[str, Any], fds: Sequence[int]) -> list[tuple[str, int]]:
    """(path, kind) in order of path; the tar is read from the descriptor, the tree is the argument's."""
    import tarfile

    from hooper.content.mounting import enter

    found: dict[str, int] = {}
    with os.fdopen(os.dup(fds[0]), "rb") as file:
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            names = [entry.name.strip("/") for entry in archive]
    enter(arguments)
    for name in names:
        folder, base = os.path.split(name)
        if base == ".wh..wh..opq" or not name:
            continue
        if base.startswith(_WHITEOUT):
            found[f"/{folder}/{base[len(_WHITEOUT) :]}".replace("//", "/")] = DELETED
        else:
            found[f"/{name}"] = MODIFIED if os.path.lexists(f"/{name}") else ADDED
        _add_parents(found, folder)
    return sorted((os.fsencode(path).decode("utf-8", "replace"), kind) for path, kind in found.items())


def _add_parents(found: dict[str, int], folder: str) -> None:
    """A folder in which something changed counts as changed."""
    while folder:
        found.setdefault(f"/{folder}", MODIFIED)
        folder = os.path.dirname(folder)
