"""The stream in which a container travels: a tar, written and read in one pass, whose sections need no known size.

    hooper-container.json       the manifest
    section-0000/00000000 …     the first section, in pieces; a section may have none
    section-0001/00000000 …
    end.json                    the digests of the manifest and of each section

All functions block: they run on threads. Nothing that an archive claims makes the reader take more than
`MANIFEST_MAX` bytes of memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from hooper.api.errors import DataLoss, InvalidArgument, Unsupported
from hooper.api.moving import FORMAT, VERSION, End, Manifest, SectionEnd
from hooper.content.tar import BLOCK, FILE, Entry, TarReader
from hooper.content.tarwrite import encode_header

T = TypeVar("T")
MANIFEST = b"hooper-container.json"
END = b"end.json"
PIECE = 1 << 20
"""Bytes of the pieces that are written."""
PIECE_MAX = 4 << 20
MANIFEST_MAX = 16 << 20
SECTIONS_MAX = 4096
_KINDS = ("blob", "layer", "container", "volume", "state")


def _digest(found: Any) -> str:
    return f"sha256:{found.hexdigest()}"


class StreamWriter:
    """Writes to the descriptor `output`. Call `manifest`, then `section` for each of its sections, then `finish`."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._manifest = ""
        self._sections: list[SectionEnd] = []

    def manifest(self, manifest: Manifest) -> None:
        content = msgspec.json.encode(manifest)
        self._manifest = _digest(hashlib.sha256(content))
        self._file(MANIFEST, content)

    def section(self, source: int) -> SectionEnd:
        """Writes all that the descriptor `source` gives until its end; returns its digest and size."""
        number, size, found = 0, 0, hashlib.sha256()
        while piece := _gather(source):
            found.update(piece)
            self._file(b"section-%04d/%08d" % (len(self._sections), number), piece)
            number, size = number + 1, size + len(piece)
        self._sections.append(SectionEnd(digest=_digest(found), size=size))
        return self._sections[-1]

    def finish(self) -> None:
        self._file(END, msgspec.json.encode(End(manifest=self._manifest, sections=self._sections)))
        _write_all(self._output, bytes(2 * BLOCK))

    def _file(self, name: bytes, content: bytes) -> None:
        header = encode_header(Entry(name, FILE, size=len(content)))
        _write_all(self._output, header + content + bytes(-len(content) % BLOCK))


def _gather(source: int) -> bytes:
    """The next piece; shorter only at the end."""
    parts, missing = [], PIECE
    while missing and (data := os.read(source, missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _write_all(output: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(output, view) :]


class StreamReader:
    """Reads what `StreamWriter` wrote from the descriptor `source`, in the same order.

    DataLoss for a stream that is cut off, changed or never was one; Unsupported for one of a newer hooper.
    """

    def __init__(self, source: int) -> None:
        self._tar = TarReader(lambda: os.read(source, PIECE))
        self._entries: Iterator[Entry] = iter(self._tar)
        self._next = self._advance()
        self._digest = ""
        self._sections: list[SectionEnd] = []
        self._expected = 0

    def _advance(self) -> Entry | None:
        entry = next(self._entries, None)
        if entry is not None and (entry.kind != FILE or entry.sparse is not None):
            raise _bad(f"{os.fsdecode(entry.name)[:100]!r} is no plain file")
        return entry

    def manifest(self) -> Manifest:
        """The manifest, with its form checked; what it says is not."""
        content = self._small(MANIFEST)
        self._digest = _digest(hashlib.sha256(content))
        head = _decoded(content, _Head)
        if head.format != FORMAT:
            raise _bad(f'it is of the format "{head.format[:40]}"')
        if head.version > VERSION:
            raise Unsupported(
                f"the container is in version {head.version} of its format",
                f"this hooper reads versions up to {VERSION}",
                "Use a hooper that is as new as the one that wrote it.",
            )
        manifest = _decoded(content, Manifest)
        if unknown := [section.kind for section in manifest.sections if section.kind not in _KINDS]:
            raise Unsupported(
                f'the container has a section of the kind "{unknown[0][:40]}"',
                "this hooper does not know it",
                "Use a hooper that is as new as the one that wrote it.",
            )
        self._expected = len(manifest.sections)
        if self._expected > SECTIONS_MAX:
            raise _bad(f"it has {self._expected} sections")
        return manifest

    def section(self, output: int | None) -> SectionEnd:
        """Writes the next section to the descriptor `output` (None: nowhere); returns its digest and size.

        Whoever reads `output` may stop early.
        """
        prefix = b"section-%04d/" % len(self._sections)
        number, size, found = 0, 0, hashlib.sha256()
        while self._next is not None and self._next.name.startswith(prefix):
            if self._next.name != prefix + b"%08d" % number or self._next.size > PIECE_MAX:
                raise _bad(f"piece {number} of section {len(self._sections)} is not as it should be")
            for piece in self._tar.pieces():
                found.update(piece)
                size += len(piece)
                if output is not None and not _offer(output, piece):
                    output = None
            number += 1
            self._next = self._advance()
        self._sections.append(SectionEnd(digest=_digest(found), size=size))
        return self._sections[-1]

    def finish(self) -> None:
        """Checks the end: all that was read is what was written."""
        end = _decoded(self._small(END), End)
        if end.manifest != self._digest:
            raise _bad("its manifest has another digest than its end says")
        if len(self._sections) != self._expected or len(end.sections) != self._expected:
            raise _bad("it lacks sections")
        for number, (found, wanted) in enumerate(zip(self._sections, end.sections, strict=True)):
            if found != wanted:
                raise _bad(f"section {number} has another digest than its end says")
        if self._next is not None:
            raise _bad("there is more after its end")

    def _small(self, name: bytes) -> bytes:
        entry = self._next
        if entry is None or entry.name != name:
            raise _bad(f"{name.decode()} is not where it should be")
        if entry.size > MANIFEST_MAX:
            raise _bad(f"{name.decode()} has {entry.size} bytes")
        content = b"".join(self._tar.pieces())
        self._next = self._advance()
        return content


class _Head(msgspec.Struct):
    format: str
    version: int


def _offer(output: int, data: memoryview) -> bool:
    try:
        _write_all(output, data)
    except BrokenPipeError:
        return False
    return True


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad(str(error)) from None


def _bad(why: str) -> DataLoss:
    return DataLoss("this is no container that hooper saved, or it is damaged", why, "Save or move it again.")


def check_layer_result(what: str, digest: str, size: int, found: SectionEnd) -> None:
    """DataLoss unless what was unpacked is all that was sent."""
    if (digest, size) != (found.digest, found.size):
        raise DataLoss(f"{what} is damaged", "what was unpacked is not what was sent", "Save or move it again.")


def check_transfer(transfer: str) -> None:
    """InvalidArgument unless it is 32 hex digits: it names directories."""
    if len(transfer) != 32 or transfer.strip("0123456789abcdef"):
        raise InvalidArgument("bad id of a transfer", "it is not 32 hexadecimal digits")
