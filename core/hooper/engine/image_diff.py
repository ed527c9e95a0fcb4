"""How two images differ: in files, from the tars of the layers that they do not share, and in configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import msgspec

from hooper.api.image_places import Difference, FileChange
from hooper.api.model import ImageSummary
from hooper.engine.layers import Layer

if TYPE_CHECKING:
    from hooper.engine.images import ImageService

Listed = dict[str, tuple[Any, ...]]
"""By path: size and all that makes it the file that it is."""
_FIELDS = ("architecture", "os", "variant", "author")


async def difference(images: ImageService, first: str, second: str) -> Difference:
    """NotFound. Of the layers that both begin with only those contents count that layers above have other ones for."""
    one, two = await images.get(first), await images.get(second)
    left, right = images.layers.ancestry(one.chain), images.layers.ancestry(two.chain)
    shared = _shared(left, right)
    with images.layers.lease() as lease:
        for image in (one, two):
            lease.add("layer", image.chain)
        before = await _above(images, left[shared:])
        after = await _above(images, right[shared:])
        touched = sorted({path for layer in (*before, *after) for path in layer["entries"]})
        deleted = any(layer["gone"] or layer["opaque"] for layer in (*before, *after))
        below = _applied({}, await _above(images, left[:shared], touched)) if touched or deleted else {}
    # Of a large image that is work for a second, which the event loop has not.
    files = await anyio.to_thread.run_sync(_between, below, before, after)
    return Difference(one.id, two.id, shared, list(_config(one, two)), files)


def _shared(left: Sequence[Layer], right: Sequence[Layer]) -> int:
    count = 0
    for a, b in zip(left, right, strict=False):
        if a.chain_id != b.chain_id:
            break
        count += 1
    return count


async def _above(
    images: ImageService, layers: Sequence[Layer], compared: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """What each layer does: entries by path, and whiteouts. Only the contents of `compared` are looked at."""
    found = []
    for layer in layers:
        with images.packer.temporary() as tar:
            await images.packer.write_tar(layer, tar)
            found.append(await images.workers.run("hooper.engine.layer_work:contents", {"compared": compared}, [tar]))
    return found


def _between(below: Listed, before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> list[FileChange]:
    return list(_changes(_applied(below, before), _applied(below, after)))


def _applied(below: Listed, layers: Sequence[dict[str, Any]]) -> Listed:
    files = dict(below)
    for layer in layers:
        gone, entries = set(layer["gone"]), layer["entries"]
        emptied = {*gone, *layer["opaque"]}
        emptied |= {path for path, entry in entries.items() if entry[1] != "directory" and _is_directory(files, path)}
        if emptied:
            files = {
                path: entry for path, entry in files.items() if path not in gone and emptied.isdisjoint(_parents(path))
            }
        files |= {path: tuple(entry) for path, entry in entries.items()}
    return files


def _is_directory(files: Listed, path: str) -> bool:
    return path in files and files[path][1] == "directory"


def _parents(path: str) -> Iterator[str]:
    """The directories that a path is in; the topmost is ""."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _changes(before: Listed, after: Listed) -> Iterator[FileChange]:
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        kind = "added" if old is None else "removed" if new is None else "changed"
        yield FileChange(f"/{path}", kind, old[0] if old else -1, new[0] if new else -1)


def _config(one: ImageSummary, two: ImageSummary) -> Iterator[tuple[str, object, object]]:
    old: dict[str, Any] = msgspec.to_builtins(one.image.config)
    new: dict[str, Any] = msgspec.to_builtins(two.image.config)
    for field in _FIELDS:
        old[field], new[field] = getattr(one.image, field, ""), getattr(two.image, field, "")
    for field in sorted(old.keys() | new.keys()):
        if (old.get(field) or None) != (new.get(field) or None):
            yield field, old.get(field), new.get(field)
