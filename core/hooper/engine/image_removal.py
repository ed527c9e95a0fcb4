"""Removal of images, by Docker's rules of what untags, what deletes and what stands in the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from hooper.api.engine import Deleted
from hooper.api.errors import Conflict
from hooper.api.reference import Reference
from hooper.engine.gc import Collected
from hooper.engine.image_store import ImageStore


class User(NamedTuple):
    """A container of an image."""

    container_id: str
    name: str
    running: bool


class Remover:
    """`containers_using` answers which containers an image has; `emit` takes type, action, id, attributes."""

    def __init__(
        self,
        images: ImageStore,
        collect: Callable[[], Awaitable[Collected]],
        containers_using: Callable[[str], Sequence[User]],
        emit: Callable[[str, str], None],
    ) -> None:
        self._images, self._collect = images, collect
        self._containers_using, self._emit = containers_using, emit

    async def remove(self, name: str, force: bool) -> list[Deleted]:
        """Takes the name away, or the image with all its names; frees what only it used."""
        records = self.forget(name, force)
        if any(record.deleted for record in records):
            collected = await self._collect()
            records += [Deleted(deleted=chain) for chain in collected.layers]
        return records

    def forget(self, name: str, force: bool) -> list[Deleted]:
        """As `remove`; layers and blobs stay until the next collection."""
        image_id, reference = self._images.resolve(name)
        if reference is not None:
            untagged = self._untag(image_id, reference, force)
            if self._images.references(image_id) or self._blocked(image_id, hard_only=force):
                self._emit("untag", image_id)
                return [Deleted(untagged=text) for text in untagged]
        else:
            self._check_id(image_id, force)
            untagged = []
            for remaining in self._images.references(image_id):
                untagged += [text for text in self._images.untag(remaining, image_id) if text not in untagged]
        for _ in untagged:
            self._emit("untag", image_id)
        self._images.delete(image_id)
        self._emit("delete", image_id)
        return [*(Deleted(untagged=text) for text in untagged), Deleted(deleted=image_id)]

    def _untag(self, image_id: str, reference: Reference, force: bool) -> list[str]:
        references = self._images.references(image_id)
        users = self._containers_using(image_id)
        if users and not force and _is_single(references):
            raise Conflict(
                f'conflict: unable to remove repository reference "{reference.familiar}" (must force) - container '
                f"{users[0].container_id[:12]} is using its referenced image {_short(image_id)}",
                remedy="Remove the container first, or force.",
            )
        return self._images.untag(reference, image_id)

    def _check_id(self, image_id: str, force: bool) -> None:
        references = self._images.references(image_id)
        blocked = self._blocked(image_id, hard_only=force)
        if not blocked and not force and not _is_single(references):
            blocked = "(must be forced) - image is referenced in multiple repositories"
        if blocked:
            raise Conflict(f"conflict: unable to delete {_short(image_id)} {blocked}")

    def _blocked(self, image_id: str, *, hard_only: bool) -> str:
        """Why the image itself cannot go, "" if it can."""
        users = self._containers_using(image_id)
        if self._images.children(image_id):
            return "(cannot be forced) - image has dependent child images"
        for user in users:
            if user.running:
                return f"(cannot be forced) - image is being used by running container {user.container_id[:12]}"
        if users and not hard_only:
            return f"(must be forced) - image is being used by stopped container {users[0].container_id[:12]}"
        return ""


def _is_single(references: Sequence[Reference]) -> bool:
    """At most one tag, and all of one repository."""
    names = {reference.name for reference in references}
    return len(names) <= 1 and sum(1 for reference in references if reference.tag) <= 1


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
