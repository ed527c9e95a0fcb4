"""Work on layers that needs a processor for itself: functions for `Workers.run`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hooper.api.errors import DataLoss, InvalidArgument
from hooper.content.compression import CHUNK, GzipWriter, load_codecs, plain_reader
from hooper.content.hashing import BackgroundHash

if TYPE_CHECKING:
    from hooper.content.tar import Entry, TarReader


def pack(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Compresses a tar, from the first descriptor to the second, with gzip. The same bytes give the same bytes.

    Returns diff_id (of the tar, "" if `hashed` is not set) and digest, and size (bytes, compressed).
    """
    plain, output = BackgroundHash() if arguments["hashed"] else None, _Output(fds[1])
    gzip = GzipWriter(output.write)
    while chunk := os.read(fds[0], CHUNK):
        if plain is not None:
            plain.update(chunk)
        gzip.write(chunk)
    gzip.finish()
    return {"diff_id": plain.finish() if plain else "", "digest": output.finish(), "size": output.size}


def unpack(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Decompresses a layer from the first descriptor to the second; returns diff_id and size of the tar."""
    output = _Output(fds[1])
    _, read = plain_reader(fds[0])
    while chunk := read():
        output.write(chunk)
    return {"diff_id": output.finish(), "size": output.size}


class _Output:
    """Writes to a descriptor, and counts and hashes what it wrote."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._hash = descriptor, BackgroundHash()
        self.finish = self._hash.finish

    @property
    def size(self) -> int:
        return self._hash.size

    def write(self, data: bytes) -> None:
        from hooper.content.pack import write_all  # the daemon, which imports this module too, has no use for it

        self._hash.update(data)
        write_all(self._descriptor, memoryview(data))


def spool(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Takes an archive of images apart: each file of the tar on the first descriptor goes into `directory`,
    under a number. Returns files (name: number) and links (name: target). InvalidArgument if it is damaged or has
    millions of entries."""
    from hooper.content.archive_names import ArchiveNames
    from hooper.content.confinement import enter_confined
    from hooper.content.tar import TarReader
    from hooper.content.unpack import write_content

    load_codecs()
    enter_confined({"root": arguments["directory"]})
    files: dict[str, int] = {}
    names = ArchiveNames()
    try:
        reader = TarReader(plain_reader(fds[0])[1])
        for entry in reader:
            if name := names.take(entry):
                files[name] = len(files)
                with open(str(files[name]), "wb", buffering=0) as file:
                    write_content(reader, file.fileno(), entry)
    except DataLoss as error:
        raise InvalidArgument("cannot load the archive", error.why, "Give it a tar made by save.") from error
    return {"files": files, "links": names.links}


def check_tar(diff_id: str, wanted: str) -> None:
    """DataLoss if a layer that was written again is not what it was."""
    if diff_id != wanted:
        raise DataLoss(
            f"layer {wanted} is no longer what it was",
            f"its content has the digest {diff_id}",
            "Pull or build it again.",
        )


def contents(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """What a layer's tar does: `entries` by path (size, type, mode, owner, link, device, digest of the content), `gone`
    and `opaque`, the paths of its whiteouts (OCI image-spec layer.md). Times are left out: builds change them all.
    Contents are hashed of the paths `compared` alone, if it is a list."""
    from hooper.content.archive_names import normal
    from hooper.content.tar import TarReader

    os.lseek(fds[0], 0, os.SEEK_SET)
    entries: dict[str, list[Any]] = {}
    gone: list[str] = []
    opaque: list[str] = []
    compared = None if arguments["compared"] is None else set(arguments["compared"])
    reader = TarReader(lambda: os.read(fds[0], CHUNK))
    for entry in reader:
        path = normal(entry.name).strip("/")
        directory, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            opaque.append(directory)
        elif name.startswith(".wh."):
            gone.append(os.path.join(directory, name[4:]))
        elif path != ".":
            entries[path] = _described(reader, entry, entries, compared is None or path in compared)
    return {"entries": entries, "gone": gone, "opaque": opaque}


def _described(reader: TarReader, entry: Entry, entries: Mapping[str, list[Any]], compared: bool) -> list[Any]:
    from hooper.content import tar
    from hooper.content.archive_names import normal

    link = entry.link.decode("utf-8", "replace")
    target = normal(entry.link).strip("/")
    if entry.kind == tar.HARDLINK and target in entries:
        return entries[target]
    kind = {tar.DIRECTORY: "directory", tar.SYMLINK: "link", tar.FILE: "file"}.get(entry.kind, "other")
    digest = hashlib.sha256()
    if compared and entry.kind == tar.FILE:
        # A sparse file is where its data are: reading what is not there could take for ever.
        digest.update(repr(entry.sparse).encode() if entry.sparse is not None else b"")
        for piece in reader.pieces():
            digest.update(piece)
    shape = [entry.mode, entry.uid, entry.gid, link, entry.major, entry.minor]
    attributes = sorted((key.decode("utf-8", "replace"), value.hex()) for key, value in entry.xattrs.items())
    return [entry.size, kind, *shape, digest.hexdigest(), attributes]
