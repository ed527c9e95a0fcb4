"""Work on layers that needs a processor for itself: functions for `Workers.run`."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from hooper.api.errors import DataLoss, InvalidArgument
from hooper.content.compression import CHUNK, GzipWriter, plain_reader


def pack(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Compresses a tar, from the first descriptor to the second, with gzip. The same bytes give the same bytes.

    Returns diff_id and digest, and size (bytes, compressed).
    """
    plain, output = hashlib.sha256(), _Output(fds[1])
    gzip = GzipWriter(output.write)
    while chunk := os.read(fds[0], CHUNK):
        plain.update(chunk)
        gzip.write(chunk)
    gzip.finish()
    return {"diff_id": f"sha256:{plain.hexdigest()}", "digest": output.digest, "size": output.size}


def unpack(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Decompresses a layer from the first descriptor to the second; returns diff_id and size of the tar."""
    output = _Output(fds[1])
    _, read = plain_reader(fds[0])
    while chunk := read():
        output.write(chunk)
    return {"diff_id": output.digest, "size": output.size}


class _Output:
    """Writes to a descriptor, and counts and hashes what it wrote."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._hash, self.size = descriptor, hashlib.sha256(), 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> None:
        from hooper.content.pack import write_all  # the daemon, which imports this module too, has no use for it

        self._hash.update(data)
        self.size += len(data)
        write_all(self._descriptor, memoryview(data))


def spool(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Takes an archive of images apart: each file of the tar on the first descriptor goes into `directory`,
    under a number. Returns files (name: number) and links (name: target)."""
    import tarfile

    directory = Path(arguments["directory"])
    files: dict[str, int] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=_Plain(fds[0]), mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                name = os.path.normpath(member.name)
                if member.isreg():
                    files[name] = len(files)
                    _copy(archive.extractfile(member), directory / str(files[name]), member.size)
                elif member.issym():
                    links[name] = os.path.normpath(os.path.join(os.path.dirname(name), member.linkname))
                elif member.islnk():
                    links[name] = os.path.normpath(member.linkname)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidArgument("cannot load the archive", str(error), "Give it a tar made by save.") from error
    return {"files": files, "links": links}


def _copy(source: IO[bytes] | None, target: Path, size: int) -> None:
    assert source is not None
    with target.open("wb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
        if file.tell() != size:
            raise EOFError("the archive is cut off")


class _Plain(io.RawIOBase):
    """What a descriptor holds, decompressed, as tarfile reads it: any size will do."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        _, self._read = plain_reader(descriptor)

    def read(self, size: int = -1) -> bytes:
        return self._read()


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
    import tarfile

    os.lseek(fds[0], 0, os.SEEK_SET)
    entries: dict[str, list[Any]] = {}
    gone: list[str] = []
    opaque: list[str] = []
    compared = None if arguments["compared"] is None else set(arguments["compared"])
    with os.fdopen(os.dup(fds[0]), "rb") as file, tarfile.open(fileobj=file, mode="r|", bufsize=CHUNK) as archive:
        for member in archive:
            name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            path = os.path.normpath(name).strip("/")
            directory, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                opaque.append(directory)
            elif name.startswith(".wh."):
                gone.append(os.path.join(directory, name[4:]))
            elif path != ".":
                entries[path] = _described(archive, member, entries, compared is None or path in compared)
    return {"entries": entries, "gone": gone, "opaque": opaque}


def _described(archive: Any, member: Any, entries: dict[str, list[Any]], compared: bool) -> list[Any]:
    target = os.path.normpath(member.linkname).strip("/")
    if member.islnk() and target in entries:
        return entries[target]
    kind = "directory" if member.isdir() else "link" if member.issym() else "file" if member.isreg() else "other"
    digest = hashlib.sha256()
    if compared and member.isreg() and (content := archive.extractfile(member)):
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    shape = [member.mode, member.uid, member.gid, member.linkname, member.devmajor, member.devminor]
    attributes = sorted((key, value) for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr."))
    return [member.size, kind, *shape, digest.hexdigest(), attributes]
