"""`hooper cp`: files between a container and the host, as tar streams."""

from __future__ import annotations

import base64
import json
import os
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import click

from hooper.api.errors import InvalidArgument, NotFound
from hooper.cli import humanise, terminal
from hooper.cli.command import command
from hooper.cli.copy_rules import (
    Arrangement,
    Source,
    Target,
    arrange,
    as_asked,
    followed,
    joined,
    names_directory,
    split_entry,
)
from hooper.cli.flags import flag
from hooper.cli.pump import write_all
from hooper.cli.session import Session
from hooper.cli.transfer import blocks, refuse_terminal
from hooper.client.api import ApiClient
from hooper.client.errors import ApiError
from hooper.client.parts import Parts

_SYMLINK, _DIRECTORY, _SPECIAL = 1 << 27, 1 << 31, (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19)
"""Bits of Go's file modes, in which the API tells them."""
_LINKS = 10
"""Links that are followed one after the other at most."""


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
        size = _from_container(session.client, from_container, from_path, to_path, follow=follow_link, owners=archive)
        shown = to_path
    else:
        size = _to_container(session.client, from_path, to_container, to_path, follow=follow_link, owners=archive)
        shown = f"{to_container}:{to_path}"
    if not quiet and shown != "-" and os.isatty(terminal.STDERR):
        print(f"Successfully copied {humanise.size(size, 3)} to {shown}", file=sys.stderr)


def split(argument: str) -> tuple[str, str]:
    """(container, path); the container is empty for a path of the host, which may start with / or ."""
    container, colon, path = argument.partition(":")
    if not colon or argument.startswith(("/", ".")):
        return "", argument
    return container, path


def _from_container(client: ApiClient, container: str, path: str, target: str, *, follow: bool, owners: bool) -> int:
    """Copies out; the bytes that came."""
    rebased = ""
    if follow:
        link = _stat(client, container, path)
        if link["mode"] & _SYMLINK and link["linkTarget"]:
            path, rebased = followed(path, joined(path, link["linkTarget"]))
    if target == "-":
        refuse_terminal("")
    response = client.stream("GET", f"/containers/{container}/archive", {"path": path})
    try:
        if target == "-":
            for part in response.parts():
                write_all(terminal.STDOUT, part)
            return 0
        found = json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))
        source = Source(path, bool(found["mode"] & _DIRECTORY), rebased)
        parts = Parts(response.parts())
        with tarfile.open(fileobj=parts, mode="r|") as archive:
            _extract(archive, source, _host_target(target), owners=owners)
        return parts.count
    finally:
        response.close()


def _host_target(path: str) -> Target:
    """The target, links at its end followed; NotFound if there is no directory to put it in."""
    path = as_asked(os.path.abspath(path), path)
    for _ in range(_LINKS):
        clean = path.rstrip("/").removesuffix("/.") or "/"
        if not os.path.islink(clean):
            break
        path = joined(clean, os.readlink(clean))
    if os.path.lexists(clean):
        is_directory = os.path.isdir(clean)
        if names_directory(path) and not is_directory:
            raise InvalidArgument(f"{clean} is not a directory")
        return Target(path, True, is_directory)
    parent = split_entry(clean)[0]
    if not os.path.isdir(parent):
        raise NotFound(f"the directory {parent} does not exist", remedy="Make it first.")
    return Target(path)


def _extract(archive: tarfile.TarFile, source: Source, target: Target, *, owners: bool) -> None:
    """Unpacks, and has what the host may keep: the owner is who runs this, unless `owners` are kept."""
    first = Arrangement("", split_entry(source.path)[1], source.rebased) if source.rebased else Arrangement("")
    how = arrange(source, target)

    def wanted(name: str) -> str:
        return how.renamed(first.renamed(name)).lstrip("/") or "."

    def place(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        member = member.replace(name=wanted(member.name), deep=False)
        if member.islnk():
            member = member.replace(linkname=wanted(member.linkname), deep=False)
        if not owners:
            member = member.replace(uid=os.getuid(), gid=os.getgid(), uname="", gname="", deep=False)
        _make_way(destination, member.name, directory=member.isdir())
        # A path that leaves the target is refused; a link's target is only text until somebody follows it.
        checked = tarfile.tar_filter(member, destination)
        return checked.replace(mode=member.mode, deep=False) if checked else None

    archive.extraction_filter = staticmethod(place)
    try:
        archive.extractall(how.directory, numeric_owner=True)
    except tarfile.FilterError as error:
        raise InvalidArgument("the archive leaves the place that it is for", str(error)) from error


def _make_way(destination: str, name: str, *, directory: bool) -> None:
    """Takes away what is in the place of a file; InvalidArgument if a directory and a file would be exchanged.

    What would be outside of `destination` is left alone: it is refused anyhow.
    """
    top = os.path.realpath(destination)
    parent = os.path.realpath(os.path.dirname(os.path.join(top, os.path.normpath(name))))
    path = os.path.join(parent, os.path.basename(name.rstrip("/")))
    if os.path.commonpath((top, parent)) != top or os.path.basename(path) in (".", "..") or not os.path.lexists(path):
        return
    there = os.path.isdir(path) and not os.path.islink(path)
    if directory and not os.path.isdir(path):
        raise InvalidArgument(f'cannot overwrite non-directory "{path}" with a directory')
    if there and not directory:
        raise InvalidArgument(f'cannot overwrite directory "{path}" with a non-directory')
    if not there and not directory:
        os.unlink(path)


def _stat(client: ApiClient, container: str, path: str) -> dict[str, Any]:
    headers = client.head(f"/containers/{container}/archive", {"path": path})
    found: dict[str, Any] = json.loads(base64.b64decode(headers["x-docker-container-path-stat"]))
    return found


def _to_container(client: ApiClient, path: str, container: str, target: str, *, follow: bool, owners: bool) -> int:
    """Copies in; the bytes that went."""
    place = _container_target(client, container, target)
    if path == "-":
        if not place.is_directory:
            raise InvalidArgument(f'the destination "{container}:{target}" must be a directory')
        return _put(client, container, place.path, blocks(sys.stdin.buffer), owners=owners)
    source = _host_source(path, follow=follow)
    how = arrange(source, place)
    clean, name = source.path.rstrip("/") or "/", split_entry(source.path)[1]
    entry = how.renamed(source.rebased or name)
    return _put(client, container, how.directory, packed(clean, entry), owners=owners)


def _container_target(client: ApiClient, container: str, path: str) -> Target:
    """The target in the container, a link at its end followed."""
    try:
        found = _stat(client, container, path)
        if found["mode"] & _SYMLINK and found["linkTarget"]:
            path = joined(path, found["linkTarget"])
            found = _stat(client, container, path)
    except ApiError as error:
        # Its directory may be there.
        if error.status != 404:
            raise
        return Target(path)
    if found["mode"] & _SPECIAL:
        raise InvalidArgument(f'the destination "{container}:{path}" must be a directory or a regular file')
    return Target(path, True, bool(found["mode"] & _DIRECTORY))


def _host_source(given: str, *, follow: bool) -> Source:
    """The file or directory to copy, links on the way to it followed; NotFound."""
    path = as_asked(os.path.abspath(given), given)
    rebased = ""
    if follow:
        path, rebased = followed(path, os.path.realpath(path))
    elif names_directory(path):
        path, rebased = followed(path, os.path.realpath(path))
        rebased = rebased if given.endswith("/") else ""
    clean = path.rstrip("/").removesuffix("/.") or "/"
    if not os.path.lexists(clean):
        raise NotFound(f"no such file or directory: {given}")
    is_directory = os.path.isdir(clean) and not os.path.islink(clean)
    if names_directory(given) and not is_directory:
        raise InvalidArgument(f"{given} is not a directory")
    return Source(path, is_directory, rebased)


def _put(client: ApiClient, container: str, path: str, body: Iterator[bytes], *, owners: bool) -> int:
    count = 0

    def counted() -> Iterator[bytes]:
        nonlocal count
        for part in body:
            count += len(part)
            yield part

    query = {"path": path, "noOverwriteDirNonDir": True, "copyUIDGID": owners or None}
    headers = {"Content-Type": "application/x-tar"}
    client.stream("PUT", f"/containers/{container}/archive", query, counted(), headers).close()
    return count


def packed(path: str, name: str) -> Iterator[bytes]:
    """A tar stream of `path` under the name `name`. Owners go along; the daemon knows what becomes of them."""

    def write(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(path, name)

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
