"""The engine's images as repositories: what was pulled, built or loaded can be pulled from here.

A repository bears the name that one gives to the engine: "busybox" and "library/busybox" are docker.io/library/busybox,
"ghcr.io/team/app" is ghcr.io/team/app. A host with a port is no name of a repository, and is left out.
"""

from __future__ import annotations

from dataclasses import replace

from hooper.api.content import Content
from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.reference import Reference
from hooper_registry_server.catalogue import Stored
from hooper_registry_server.names import is_digest


class EngineImages:
    def __init__(self, content: Content) -> None:
        self._content = content

    @staticmethod
    def _reference(name: str) -> Reference | None:
        try:
            return Reference.parse(name)
        except InvalidArgument:
            return None

    def repositories(self) -> list[str]:
        return sorted({tag.familiar_name for tag in self._content.tagged() if ":" not in tag.host})

    def tags(self, name: str) -> list[str]:
        wanted = self._reference(name)
        return [tag.tag for tag in self._content.tagged() if wanted is not None and tag.name == wanted.name]

    async def manifest(self, name: str, reference: str) -> Stored | None:
        wanted = self._reference(name)
        if wanted is None or reference.startswith("sha512:"):
            return None
        wanted = replace(wanted, digest=reference) if is_digest(reference) else replace(wanted, tag=reference)
        try:
            found = await self._content.manifest(wanted)
        except NotFound:
            return None
        return Stored(found.descriptor.digest, found.descriptor.media_type, found.content)

    def has(self, name: str, digest: str) -> bool:
        """Whether the blob belongs to an image of that name."""
        wanted = self._reference(name)
        return wanted is not None and self._content.holds(wanted.name, digest)
