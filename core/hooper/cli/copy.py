"""`hooper cp`: files between a container and the host, as tar streams."""

from __future__ import annotations

import base64
import json
import os
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import click

from hooper.api.errors import InvalidArgument, NotFound
from hooper.cli import terminal
from hooper.cli.command import command
from hooper.cli.flags import flag
from hooper.cli.pump import write_all
from hooper.cli.session import Session
from hooper.cli.transfer import blocks, refuse_terminal
from hooper.client.api import ApiClient
from hooper.client.errors import ApiError

_SYMLINK = 1 << 27
_DIRECTORY = 1 << 31


@command("cp", "CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH")
@flag("-a", "--archive", help="Archive mode (copy all uid/gid information)")
@flag("-L", "--follow-link", help="Always follow symbol link in SRC_PATH")
@flag("-q", "--quiet", help="Suppress the summary")
@click.argument("source")
@click.argument("target")
@click.pass_obj
def copy(session: Session, source: str, target: str, archive: bool, follow_link: bool, quiet: bool) -> None:
    """Copy files/folders between a container and the local filesystem."""
    from_container, from_path = split(source)
    to_container, to_path = split(target)
    if from_container and to_container:
        raise InvalidArgument("copying between containers is not supported", remedy="Copy by way of the host.")
    if not (from_container or to_container):
        raise InvalidArgument(
            "must specify at least one container source or target", remedy="For example: hooper cp web:/etc/hosts ."
        )
    if from_container:
        _from_container(session.client, from_container, from_path, to_path, follow=follow_link, owners=archive)
        shown = to_path
    else:
        _to_container(session.client, from_path, to_container, to_path, follow=follow_link, owners=archive)
        shown = f"{to_container}:{to_path}"
    if not quiet and shown != "-" and os.isatty(terminal.STDERR):
        print(f"Successfully copied to {shown}", file=sys.stderr)


def split(argument: str) -> tuple[str, str]:
    """(container, path); the container is empty for a path of the host, which may start with / or ."""
    container, colon, path = argument.partition(":")
    if not colon or argument.startswith(("/", ".")):
        return "", argument
    return container, path


def _from_container(client: ApiClient, container: str, path: str, target: str, *, follow: bool, owners: bool) -> None:
    if follow:
        link = _stat(client, container, path)
        if link["mode"] & _SYMLINK and link["linkTarget"]:
            path = link["linkTarget"]
    if target == "-":
        refuse_terminal("")
    response = client.stream("GET", f"/containers/{container}/archive", {"path": path})
    try:
        if target == "-":
            for part in response.parts():
                write_all(terminal.STDOUT, part)
            return
        source = json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))
        with tarfile.open(fileobj=_Parts(response.parts()), mode="r|") as archive:  # type: ignore[call-overload]
            _extract(archive, path, source, target, owners=owners)
    finally:
        response.close()


def _extract(archive: tarfile.TarFile, path: str, source: dict[str, Any], target: str, *, owners: bool) -> None:
    """Unpacks below the target, the first part of every name being replaced by the name that is wanted."""
    directory, name = _destination(path, source, target)
    top = ""

    def place(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        nonlocal top
        top = top or member.name.strip("/").split("/")[0]
        member = member.replace(name=_renamed(member.name, top, name), deep=False)
        if member.islnk():
            member = member.replace(linkname=_renamed(member.linkname, top, name), deep=False)
        if not owners:
            member = member.replace(uid=os.getuid(), gid=os.getgid(), uname="", gname="", deep=False)
        # A path that leaves the target is refused; a link's target is only text until somebody follows it.
        checked = tarfile.tar_filter(member, destination)
        return checked.replace(mode=member.mode, deep=False) if checked else None

    archive.extraction_filter = staticmethod(place)
    archive.extractall(directory, numeric_owner=True)


def _renamed(name: str, top: str, wanted: str) -> str:
    rest = name.strip("/").removeprefix(top).lstrip("/")
    return "/".join(part for part in (wanted, rest) if part) or "."


def _destination(path: str, source: dict[str, Any], target: str) -> tuple[Path, str]:
    """(existing directory, name below it) by the rules of docker cp; an empty name is the directory itself."""
    is_directory = bool(source["mode"] & _DIRECTORY)
    contents = path.endswith("/.") or path == "."
    place = Path(target)
    if place.is_dir():
        return place, "" if contents and is_directory else (PurePosixPath(path).name or source["name"].strip("/"))
    if is_directory and place.exists():
        raise InvalidArgument(f"cannot copy a directory onto the file {target}")
    if target.endswith("/") and not is_directory:
        raise NotFound(f"the directory {target} does not exist", remedy="Make it first.")
    if not place.parent.is_dir():
        raise NotFound(f"the directory {place.parent} does not exist", remedy="Make it first.")
    return place.parent, place.name


class _Parts:
    """The pieces of a body as something to read from."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._left = parts, b""

    def read(self, count: int) -> bytes:
        """At most `count` bytes; empty at the end."""
        while len(self._left) < count:
            part = next(self._parts, None)
            if part is None:
                break
            self._left += part
        data, self._left = self._left[:count], self._left[count:]
        return data


def _stat(client: ApiClient, container: str, path: str) -> dict[str, Any]:
    headers = client.head(f"/containers/{container}/archive", {"path": path})
    found: dict[str, Any] = json.loads(base64.b64decode(headers["x-docker-container-path-stat"]))
    return found


def _to_container(client: ApiClient, source: str, container: str, target: str, *, follow: bool, owners: bool) -> None:
    if source == "-":
        _put(client, container, target, blocks(sys.stdin.buffer), owners=owners)
        return
    path = os.path.realpath(source) if follow else source
    if not os.path.lexists(path):
        raise NotFound(f"no such file or directory: {source}")
    contents = source.endswith("/.") or os.path.basename(source.rstrip("/")) in (".", "..")
    directory, name = _placement(client, container, target, path, contents=contents)
    _put(client, container, directory, packed(Path(path), name, owners=owners), owners=owners)


def _placement(client: ApiClient, container: str, target: str, path: str, *, contents: bool) -> tuple[str, str]:
    """(existing directory in the container, name below it)."""
    is_directory = os.path.isdir(path)
    try:
        found = _stat(client, container, target)
        if found["mode"] & _SYMLINK and found["linkTarget"]:
            target = found["linkTarget"]
            found = _stat(client, container, target)
    except ApiError as error:
        if error.status != 404:
            raise
        if target.endswith("/") and not is_directory:
            raise NotFound(f"the directory {target} does not exist in {container}") from error
        found = {}
    if found and found["mode"] & _DIRECTORY:
        return target, "." if contents and is_directory else os.path.basename(path.rstrip("/"))
    if found and is_directory:
        raise InvalidArgument(f"cannot copy a directory onto the file {target} in {container}")
    parent, _, name = target.rstrip("/").rpartition("/")
    return parent or "/", name


def _put(client: ApiClient, container: str, path: str, body: Iterator[bytes], *, owners: bool) -> None:
    query = {"path": path, "noOverwriteDirNonDir": True, "copyUIDGID": owners or None}
    headers = {"Content-Type": "application/x-tar"}
    client.stream("PUT", f"/containers/{container}/archive", query, body, headers).close()


def packed(path: Path, name: str, *, owners: bool) -> Iterator[bytes]:
    """A tar stream of `path` under the name `name`; owners are root's unless they are to be kept."""

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        return member if owners else member.replace(uid=0, gid=0, uname="", gname="", deep=False)

    def write(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(path, name, filter=owned)

    return _written(write)


def _written(write: Callable[[BinaryIO], None]) -> Iterator[bytes]:
    """What `write` writes into the file that it is given, piece by piece, errors included."""
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def work() -> None:
        with os.fdopen(writing, "wb") as file:
            try:
                write(file)
            except BrokenPipeError:
                # The reader gave up, and knows why.
                return
            except OSError as error:
                failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    with os.fdopen(reading, "rb") as file:
        yield from blocks(file)
    thread.join()
    if failures:
        raise failures[0]
