"""Byte ranges: of requests for blobs (RFC 9110, section 14), and of chunks that are uploaded."""

from __future__ import annotations

import re

from hooper_registry_server.problems import Problem

_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*")
_CHUNK = re.compile(r"(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?")


def wanted(header: str, size: int) -> tuple[int, int] | None:
    """(first byte, count) of a `Range`; None for the whole: without one, or one that is not understood.

    416 if the file has no such bytes. Several ranges are answered with the whole, as RFC 9110 allows.
    """
    found = _RANGE.fullmatch(header)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        count = min(int(found[2]), size)
        if not count:
            raise _unsatisfiable(size)
        return size - count, count
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None
    if first >= size:
        raise _unsatisfiable(size)
    return first, last - first + 1


def _unsatisfiable(size: int) -> Problem:
    return Problem(416, "SIZE_INVALID", "the blob has no such bytes", None, {"content-range": f"bytes */{size}"})


def chunk(header: str, length: int | None) -> tuple[int, int] | None:
    """(first byte, count) of the `Content-Range` of a chunk; None without one. 400 if it contradicts itself."""
    if not header:
        return None
    found = _CHUNK.fullmatch(header.strip())
    if found is None or int(found[2]) < int(found[1]):
        raise Problem(400, "BLOB_UPLOAD_INVALID", "Content-Range is not FIRST-LAST")
    first, count = int(found[1]), int(found[2]) - int(found[1]) + 1
    if length is not None and length != count:
        raise Problem(400, "SIZE_INVALID", "Content-Range and Content-Length do not agree")
    return first, count
