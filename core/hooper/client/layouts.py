"""Layouts of images on the client's side: read and written with the rights of whoever runs the client."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from hooper.api.errors import DataLoss, InvalidArgument, NotFound
from hooper.api.layout import (
    DIRECTORY,
    INDEX,
    MARK,
    MARK_CONTENT,
    OCI_ARCHIVE,
    STREAM,
    TAG_NAME,
    WHOLE_NAME,
    Layout,
    blob_path,
)
from hooper.api.reference import is_digest
from hooper.client.parts import Parts

_BLOCK = 1 << 18
_NAMES = (TAG_NAME, WHOLE_NAME)
_DEPTH = 4


def on_stream(layout: Layout) -> str:
    """The same as the daemon is told of it: an archive that the request carries."""
    scheme = OCI_ARCHIVE if layout.scheme == DIRECTORY else layout.scheme
    return str(Layout(scheme, STREAM, layout.reference))


def archive_of(layout: Layout) -> Iterator[bytes]:
    """The bytes of an archive, or of one that is made of a directory, with what the wanted image needs. NotFound."""
    if layout.scheme != DIRECTORY:
        with open(layout.path, "rb") as file:
            yield from iter(lambda: file.read(_BLOCK), b"")
        return
    root = Path(layout.path)
    index = _index(root)
    if not index["manifests"]:
        raise NotFound(f"{layout.path} is no OCI layout", f"it has no {INDEX}", "Give the directory of one.")
    names = sorted({_blob(digest) for digest in _needed(root, index, layout.reference)})
    for name in (MARK, INDEX, *names):
        path = root / name
        if path.is_file():
            yield from _member(name, path)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        info = tarfile.TarInfo(name)
        info.size = os.fstat(file.fileno()).st_size
        yield info.tobuf(tarfile.GNU_FORMAT)
        left = info.size
        while left and (chunk := file.read(min(left, _BLOCK))):
            left -= len(chunk)
            yield chunk
        if left:
            raise DataLoss(f"{path} was cut off while it was read")
        yield bytes(-info.size % tarfile.BLOCKSIZE)


def _needed(root: Path, index: dict[str, Any], reference: str) -> Iterator[str]:
    """Digests of all that the wanted images need; of all images if none is called just so: the daemon knows more names,
    or complains."""
    if is_digest(reference):
        yield from _below(root, reference)
        return
    named = [one for one in index["manifests"] if reference in {(one.get("annotations") or {}).get(k) for k in _NAMES}]
    for entry in named or index["manifests"]:
        yield from _below(root, entry["digest"])


def _below(root: Path, digest: str, depth: int = 0) -> Iterator[str]:
    path = root / _blob(digest)
    if not path.is_file() or depth > _DEPTH:
        return
    yield digest
    content, (algorithm, _, hexadecimal) = path.read_bytes(), digest.partition(":")
    if hashlib.new(algorithm, content).hexdigest() != hexadecimal:
        raise DataLoss(f"manifest {digest} of the layout {root} is damaged", remedy="Write the layout again.")
    manifest = json.loads(content)
    for child in manifest.get("manifests") or ():
        yield from _below(root, child["digest"], depth + 1)
    for part in (manifest.get("config"), *(manifest.get("layers") or ())):
        if part:
            yield part["digest"]


def _blob(digest: str) -> str:
    if not is_digest(digest):
        raise InvalidArgument(f'"{digest}" is not a digest', remedy="The layout is damaged.")
    return blob_path(digest)


def _index(root: Path) -> dict[str, Any]:
    try:
        found = json.loads((root / INDEX).read_bytes())
        return found if isinstance(found.get("manifests"), list) else {"schemaVersion": 2, "manifests": []}
    except FileNotFoundError:
        return {"schemaVersion": 2, "manifests": []}
    except (ValueError, AttributeError) as error:
        raise InvalidArgument(f"{root / INDEX} is damaged", str(error), "Mend or remove it.") from error


def store(layout: Layout, parts: Iterable[bytes]) -> None:
    """Writes an archive that the daemon sent to its place, or adds it to a directory. DataLoss if a blob is damaged."""
    if layout.scheme != DIRECTORY:
        _replaced(Path(layout.path), parts)
        return
    root = Path(layout.path)
    root.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"manifests": []}
    with tarfile.open(fileobj=Parts(parts), mode="r|") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None:
                continue
            if member.name == INDEX:
                index = json.loads(file.read())
            elif member.name.startswith("blobs/"):
                _take(root, member, file)
    if not (root / MARK).exists():
        _replaced(root / MARK, [MARK_CONTENT])
    _merge(root, index["manifests"])


def _take(root: Path, member: tarfile.TarInfo, file: IO[bytes]) -> None:
    algorithm, _, hexadecimal = member.name.removeprefix("blobs/").partition("/")
    target, digest = root / _blob(f"{algorithm}:{hexadecimal}"), hashlib.new(algorithm)
    target.parent.mkdir(parents=True, exist_ok=True)

    def checked() -> Iterator[bytes]:
        while chunk := file.read(_BLOCK):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != hexadecimal:
            raise DataLoss(f"blob {algorithm}:{hexadecimal} is damaged", remedy="Try again.")

    if not target.exists():
        _replaced(target, checked())


def _merge(root: Path, entries: list[dict[str, Any]]) -> None:
    lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        index = _index(root)
        for entry in entries:
            names = [(entry.get("annotations") or {}).get(key) for key in _NAMES]
            index["manifests"] = [old for old in index["manifests"] if not _gives_way(old, entry, names)]
            index["manifests"].append(entry)
        _replaced(root / INDEX, [json.dumps(index).encode()])
    finally:
        os.close(lock)


def _gives_way(old: dict[str, Any], entry: dict[str, Any], names: list[str | None]) -> bool:
    theirs = [(old.get("annotations") or {}).get(key) for key in _NAMES]
    return theirs == names and (any(names) or old["digest"] == entry["digest"])


def _replaced(path: Path, parts: Iterable[bytes]) -> None:
    """Writes a file that appears only when it is complete."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
