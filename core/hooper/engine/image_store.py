"""The images of this engine: rows in the database, configurations in the content store, names resolved."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hooper.api.errors import HooperError, InvalidArgument, NotFound
from hooper.api.manifests import decode_image, fits, parse_platform
from hooper.api.model import Image, ImageSummary
from hooper.api.reference import Reference
from hooper.api.registry import Platform
from hooper.engine import clock
from hooper.engine.short_names import ShortNames, candidates
from hooper.state.database import Database

if TYPE_CHECKING:
    from hooper.content.store import ContentStore

_HEX = re.compile(r"[a-f0-9]{1,64}\Z")


class ImageStore:
    def __init__(self, database: Database, content: ContentStore) -> None:
        self.database, self.content = database, content
        self._decoded: dict[str, Image] = {}
        self.short_names = ShortNames()

    # --- reading --------------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """Newest first."""
        return [row[0] for row in self.database.query("SELECT id FROM images ORDER BY created DESC, id")]

    def exists(self, image_id: str) -> bool:
        return self.database.row("SELECT 1 FROM images WHERE id=?", (image_id,)) is not None

    def config(self, image_id: str) -> bytes:
        """The configuration, byte for byte as it was pulled or made."""
        descriptor = self.content.open(image_id)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def summary(self, image_id: str) -> ImageSummary:
        row = self.database.row(
            "SELECT chain_id, parent, size, created, last_tagged FROM images WHERE id=?", (image_id,)
        )
        if row is None:
            raise no_such_image(image_id)
        chain, parent, size, created, last_tagged = row
        if image_id not in self._decoded:
            self._decoded[image_id] = decode_image(self.config(image_id), image_id)
        image = self._decoded[image_id]
        return ImageSummary(
            id=image_id,
            tags=[Reference.parse(text).familiar for text in self.tags(image_id)],
            digests=[Reference.parse(f"{name}@{digest}").familiar for name, digest in self.digests(image_id)],
            created=created,
            size=size,
            labels=image.config.labels or {},
            parent=parent,
            image=image,
            chain=chain or "",
            last_tagged=last_tagged,
        )

    def tags(self, image_id: str) -> list[str]:
        """Full references."""
        rows = self.database.query("SELECT reference FROM tags WHERE image_id=? ORDER BY reference", (image_id,))
        return [row[0] for row in rows]

    def digests(self, image_id: str) -> list[tuple[str, str]]:
        """Name and digest."""
        rows = self.database.query(
            "SELECT name, digest FROM repo_digests WHERE image_id=? ORDER BY name, digest", (image_id,)
        )
        return [(name, digest) for name, digest in rows]

    def tagged(self, name: str) -> list[tuple[Reference, str]]:
        """All tags of a full name, with their images."""
        rows = self.database.query("SELECT reference, image_id FROM tags ORDER BY reference")
        found = [(Reference.parse(text), image_id) for text, image_id in rows]
        return [(reference, image_id) for reference, image_id in found if reference.name == name]

    def children(self, image_id: str) -> list[str]:
        return [row[0] for row in self.database.query("SELECT id FROM images WHERE parent=?", (image_id,))]

    # --- platforms ------------------------------------------------------------------------------------

    def variants(self, image_id: str) -> list[str]:
        """The images that came from the same index as this one, for other platforms, and itself first."""
        rows = self.database.query(
            """SELECT DISTINCT other.image_id FROM repo_digests own JOIN repo_digests other USING (name, digest)
               WHERE own.image_id=? AND other.image_id!=own.image_id ORDER BY other.image_id""",
            (image_id,),
        )
        return [image_id, *(row[0] for row in rows)]

    def for_platform(self, name: str, platform: str, shown: str = "") -> str:
        """The image of a name for a platform. NotFound with Docker's text, which may show another name."""
        image_id = self.resolve(name)[0]
        if not platform:
            return image_id
        wanted = parse_platform(platform)
        for variant in self.variants(image_id):
            image = self.summary(variant).image
            if fits(Platform(os=image.os, architecture=image.architecture, variant=image.variant), wanted):
                return variant
        raise NotFound(
            f"image with reference {shown or name} was found but does not provide the specified platform ({platform})",
            remedy=f"Pull it: hooper pull --platform {platform} {shown or name}.",
        )

    # --- names ----------------------------------------------------------------------------------------

    def resolve(self, name: str) -> tuple[str, Reference | None]:
        """The id of the image that a reference, id or prefix names, and the reference if it was one."""
        bare = name.removeprefix("sha256:")
        if len(bare) == 64 and _HEX.match(bare):
            if self.exists(f"sha256:{bare}"):
                return f"sha256:{bare}", None
            raise no_such_image(name)
        if not name.startswith("sha256:"):
            reference = Reference.parse(name).with_default_tag()
            if image_id := self.lookup(reference):
                return image_id, reference
            for other in candidates(name, self.short_names.places) if self.short_names.places else ():
                if image_id := self.lookup(other.with_default_tag()):
                    return image_id, other.with_default_tag()
            if not _HEX.match(name):
                raise no_such_image(reference.familiar)
        return self._by_prefix(name, bare), None

    def lookup(self, reference: Reference) -> str | None:
        """The image that a tag or digest names."""
        if reference.digest:
            row = self.database.row(
                "SELECT image_id FROM repo_digests WHERE name=? AND digest=?", (reference.name, reference.digest)
            )
        else:
            row = self.database.row("SELECT image_id FROM tags WHERE reference=?", (str(reference),))
        return row[0] if row else None

    def _by_prefix(self, name: str, prefix: str) -> str:
        rows: list[str] = []
        if _HEX.match(prefix):
            found = self.database.query("SELECT id FROM images WHERE substr(id,8,?)=? LIMIT 2", (len(prefix), prefix))
            rows = [row[0] for row in found]
        if len(rows) > 1:
            raise InvalidArgument(f"Multiple IDs found with provided prefix: {prefix}", remedy="Give more digits.")
        if not rows:
            raise no_such_image(name if name.startswith("sha256:") else f"{name}:latest")
        return rows[0]

    # --- changing -------------------------------------------------------------------------------------

    def add(self, image_id: str, image: Image, chain: str, size: int, parent: str = "") -> None:
        """Records an image whose configuration is in the content store; one that is there already stays."""
        self.database.execute(
            "INSERT OR IGNORE INTO images VALUES (?,?,?,?,?,0)",
            (image_id, chain or None, parent, size, clock.seconds(image.created)),
        )

    def tag(self, reference: Reference, image_id: str) -> str | None:
        """Gives the tag to the image; the id of the one that lost it, or None."""
        text = str(reference)
        with self.database.transaction():
            before = self.database.row("SELECT image_id FROM tags WHERE reference=?", (text,))
            self.database.execute("INSERT OR REPLACE INTO tags VALUES (?,?)", (text, image_id))
            self.database.execute("UPDATE images SET last_tagged=? WHERE id=?", (time.time(), image_id))
        return before[0] if before and before[0] != image_id else None

    def add_digest(self, name: str, digest: str, image_id: str) -> None:
        """Nothing if the image has been removed meanwhile."""
        self.database.execute(
            "INSERT OR IGNORE INTO repo_digests SELECT ?,?,id FROM images WHERE id=?", (name, digest, image_id)
        )

    def add_origin(self, name: str, digest: str, image_id: str) -> None:
        """Records that a registry was seen to have the image, under that name and digest: a fact, which no tag that is
        given or taken here changes."""
        self.database.execute(
            "INSERT OR IGNORE INTO image_origins SELECT ?,?,id FROM images WHERE id=?", (name, digest, image_id)
        )

    def origins(self, image_id: str) -> list[tuple[str, str]]:
        """Name and digest of every registry that was seen to have the image."""
        rows = self.database.query(
            "SELECT name, digest FROM image_origins WHERE image_id=? ORDER BY name, digest", (image_id,)
        )
        return [(name, digest) for name, digest in rows]

    def add_source(self, digest: str, reference: Reference) -> None:
        """Records that a registry has the blob in the repository of `reference`."""
        self.database.execute(
            "INSERT OR IGNORE INTO blob_sources VALUES (?,?,?)", (digest, reference.host, reference.path)
        )

    def sources(self, digest: str, host: str) -> list[str]:
        """Repositories on a registry that are known to have the blob."""
        rows = self.database.query("SELECT repository FROM blob_sources WHERE digest=? AND host=?", (digest, host))
        return [row[0] for row in rows]

    def untag(self, reference: Reference, image_id: str) -> list[str]:
        """Takes a tag or digest from the image; with the last tag of a name go its digests. What went, familiar."""
        gone = [reference.familiar]
        with self.database.transaction():
            if reference.digest:
                self._remove_digest(reference.name, reference.digest, image_id)
                return gone
            self.database.execute("DELETE FROM tags WHERE reference=?", (str(reference),))
            if any(owner == image_id for _, owner in self.tagged(reference.name)):
                return gone
            for name, digest in self.digests(image_id):
                if name == reference.name:
                    self._remove_digest(name, digest, image_id)
                    gone.append(f"{reference.familiar_name}@{digest}")
        return gone

    def _remove_digest(self, name: str, digest: str, image_id: str) -> None:
        self.database.execute(
            "DELETE FROM repo_digests WHERE name=? AND digest=? AND image_id=?", (name, digest, image_id)
        )

    def delete(self, image_id: str) -> None:
        """Forgets the image and whatever still names it."""
        with self.database.transaction():
            self.database.execute("DELETE FROM tags WHERE image_id=?", (image_id,))
            self.database.execute("DELETE FROM repo_digests WHERE image_id=?", (image_id,))
            self.database.execute("DELETE FROM image_origins WHERE image_id=?", (image_id,))
            self.database.execute("UPDATE images SET parent='' WHERE parent=?", (image_id,))
            self.database.execute("DELETE FROM images WHERE id=?", (image_id,))
        self._decoded.pop(image_id, None)

    def hand_over(self, image_id: str) -> None:
        """Gives the tags of an image to one that came under the same names for another platform, where there is one."""
        for other in self.variants(image_id)[1:]:
            names = {name for name, _ in self.digests(other)}
            for text in self.tags(image_id):
                if Reference.parse(text).name in names:
                    self.database.execute("UPDATE tags SET image_id=? WHERE reference=?", (other, text))

    def references(self, image_id: str) -> Sequence[Reference]:
        """Every tag and digest of the image."""
        tags = [Reference.parse(text) for text in self.tags(image_id)]
        return tags + [Reference.parse(f"{name}@{digest}") for name, digest in self.digests(image_id)]


def no_such_image(name: str) -> HooperError:
    """The words at which clients pull."""
    return NotFound(f"No such image: {name}")
