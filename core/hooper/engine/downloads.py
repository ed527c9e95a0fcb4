"""Files from URLs, for ADD and as contexts. What has not changed at its server is not fetched again."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hooper.api.build_graph import HttpSource
from hooper.api.driver import Workers
from hooper.api.errors import InvalidArgument
from hooper.content.listing import entry_digest
from hooper.engine.build_files import SourceEntry

_DEFAULT_NAME = "download"
_MODE = 0o100600


def key_of(source: HttpSource) -> str:
    """What it is kept by. Two checksums of one URL are two files."""
    parts = (source.url, source.checksum, _name(source))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


async def obtain(
    source: HttpSource, place: Path, workers: Workers, limit: int = 0, *, settled: bool = False
) -> list[SourceEntry] | None:
    """Gets the file into `place`/tree, mode 0600; its time is the server's Last-Modified, else the epoch.

    `settled`: somebody uses what is there, so that it must not change; None then if the server has another one.
    InvalidArgument for a wrong checksum or 4xx; NotFound, Unavailable.
    """
    name = _name(source)
    arguments = {
        "url": source.url,
        "place": str(place),
        "name": os.fsencode(name),
        "checksum": _wanted(source),
        "limit": limit,
        "settled": settled,
    }
    found = await workers.run("hooper.content.fetching:fetch", arguments)
    if found["changed"]:
        return None
    return [SourceEntry(name, "file", entry_digest(_MODE, content=found["digest"]), found["size"])]


def _name(source: HttpSource) -> str:
    """As it is called in the tree: what the URL's path ends in, unless it says another."""
    name = source.filename or posixpath.basename(unquote(urlsplit(source.url).path))
    return name if name not in ("", ".", "..") and "/" not in name and "\0" not in name else _DEFAULT_NAME


def _wanted(source: HttpSource) -> str:
    """The digest in hexadecimal. InvalidArgument for another algorithm."""
    algorithm, _, wanted = source.checksum.partition(":")
    if source.checksum and (algorithm != "sha256" or not re.fullmatch("[0-9a-f]{64}", wanted)):
        raise InvalidArgument(
            f'unsupported checksum "{source.checksum}"', "it is no sha256 digest", "Write --checksum=sha256:DIGEST."
        )
    return wanted
