"""The values of `hooper build`'s flags that are small languages: caches, secrets, agents, contexts.

(Outputs are in `build_outputs`.) Each is what Docker's buildx reads. A value that cannot be is a BadFlag, which names
flag, value, cause and a right example; nothing here speaks to the daemon.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from hooper.api.errors import InvalidArgument
from hooper.api.reference import Reference
from hooper.cli.errors import BadFlag

_CACHES = {"--cache-from": ("registry", "local"), "--cache-to": ("inline", "registry", "local")}
_PLACES = {"--cache-from": "src", "--cache-to": "dest"}
_ENTITLEMENTS = ("security.insecure", "network.host")
_OF_CLIENT = ("fs", "fs.read", "fs.write")
"""Entitlements of buildx's own, about files of the client's."""
_WEB = ("http://", "https://")


class Cache(NamedTuple):
    """One --cache-from or --cache-to. `place` is a directory of the client's, of type local."""

    type: str
    attrs: dict[str, str]
    place: str = ""


class Secret(NamedTuple):
    """Where the client has a secret: a file, or a variable of the environment."""

    file: str = ""
    variable: str = ""


class Context(NamedTuple):
    """One --build-context: kind and value as `hooper.api.builder.NamedContext`; `place` is a path of the client's."""

    kind: str
    value: str = ""
    place: str = ""


def fields(flag: str, text: str, example: str) -> list[str]:
    """The fields of a line of CSV: a field in double quotes may hold commas."""
    import csv

    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise BadFlag(flag, text, f"it is not a line of comma-separated fields: {error}", example) from error
    found = [field.strip() for field in rows[0]] if rows else []
    if not any(found):
        raise BadFlag(flag, text, "it is empty", example)
    return found


def attributes(flag: str, text: str, parts: Iterable[str], example: str) -> dict[str, str]:
    """KEY=VALUE fields; a key's case does not matter."""
    found: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise BadFlag(flag, text, f'"{part}" is not KEY=VALUE', example)
        found[key.strip().lower()] = value
    return found


# --- caches -------------------------------------------------------------------------------------------


def caches(flag: str, items: Iterable[str]) -> list[Cache]:
    """What `flag`, --cache-from or --cache-to, asks for; a bare NAME is a reference of a registry's."""
    found = []
    for text in items:
        parts = fields(flag, text, f"{flag} type=registry,ref=registry/name")
        if any("=" in part for part in parts):
            found.append(_cache(flag, text, parts))
        else:
            found += [Cache("registry", {"ref": _reference(flag, text, part)}) for part in parts]
    return found


def _cache(flag: str, text: str, parts: list[str]) -> Cache:
    key = _PLACES[flag]
    registry, local = f"{flag} type=registry,ref=registry/name", f"{flag} type=local,{key}=directory"
    attrs = attributes(flag, text, parts, registry)
    kind, known = attrs.pop("type", "").lower(), _CACHES[flag]
    if kind not in known:
        why = f'"{kind}" is none of {", ".join(known)}' if kind else "the type is missing"
        if kind == "inline":
            why = "an inline cache is part of an image, which is named as type=registry"
        raise BadFlag(flag, text, why, registry)
    if attrs.get("mode", "min") not in ("min", "max"):
        raise BadFlag(flag, text, f'mode is "{attrs["mode"]}", neither min nor max', f"{registry},mode=max")
    if kind == "registry":
        if not attrs.get("ref"):
            raise BadFlag(flag, text, "ref, the name in the registry, is missing", registry)
        _reference(flag, text, attrs["ref"])
    if kind != "local":
        return Cache(kind, attrs)
    place = attrs.pop(key, "")
    if not place:
        raise BadFlag(flag, text, f"{key}, the directory, is missing", local)
    if os.path.exists(place) and not os.path.isdir(place):
        raise BadFlag(flag, text, f"{place} is not a directory", local)
    return Cache(kind, attrs, place)


def _reference(flag: str, text: str, name: str) -> str:
    try:
        Reference.parse(name)
    except InvalidArgument as error:
        raise BadFlag(flag, text, f"{error.what}: {error.why}", f"{flag} registry/name:tag") from error
    return name


# --- secrets and agents -------------------------------------------------------------------------------


def secrets(items: Iterable[str]) -> dict[str, Secret]:
    """Where the client has each secret, by id. It must be there."""
    return dict(_secret(text) for text in items)


def _secret(text: str) -> tuple[str, Secret]:
    example = "--secret id=token,src=token.txt"
    known = ("id", "src", "source", "env", "type")
    attrs = attributes("--secret", text, fields("--secret", text, example), example)
    for key in attrs:
        if key not in known:
            raise BadFlag("--secret", text, f'"{key}" is none of {", ".join(known)}', example)
    name, kind = attrs.get("id", ""), attrs.get("type", "")
    file, variable = attrs.get("src", "") or attrs.get("source", ""), attrs.get("env", "")
    if not name:
        raise BadFlag("--secret", text, "the id is missing", example)
    if kind not in ("", "file", "env"):
        raise BadFlag("--secret", text, f'type is "{kind}", neither file nor env', example)
    if file and variable:
        raise BadFlag("--secret", text, "it is a file or a variable, not both", example)
    if kind == "env" and not variable:
        file, variable = "", file or name
    if not (file or variable):
        file, variable = ("", name) if kind != "file" and name in os.environ else (name, "")
    if file and not os.path.isfile(file):
        raise BadFlag("--secret", text, f"{file} is not a file", example)
    if variable and variable not in os.environ:
        raise BadFlag("--secret", text, f"the variable {variable} is not set", f"--secret id={name},env={variable}")
    return name, Secret(file, variable)


def agents(items: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Sockets of agents and files of keys, by id; the agent that SSH_AUTH_SOCK names where none is given."""
    found: dict[str, tuple[str, ...]] = {}
    for text in items:
        name, equals, rest = text.partition("=")
        paths = tuple(part for part in rest.split(",") if part)
        if not name or (equals and not paths):
            raise BadFlag("--ssh", text, "it is not ID or ID=PATH", "--ssh default or --ssh default=~/.ssh/id_ed25519")
        if not paths:
            usual = os.environ.get("SSH_AUTH_SOCK", "")
            if not usual:
                raise BadFlag(
                    "--ssh", text, "SSH_AUTH_SOCK is not set: no agent runs", f"--ssh {name}=~/.ssh/id_ed25519"
                )
            paths = (usual,)
        found[name] = tuple(os.path.expanduser(path) for path in paths)
        _check_agent(text, name, found[name])
    return found


def _check_agent(text: str, name: str, paths: tuple[str, ...]) -> None:
    import stat

    kinds = []
    for path in paths:
        try:
            kinds.append(stat.S_ISSOCK(os.stat(path).st_mode))
        except OSError as error:
            raise BadFlag("--ssh", text, f"{path}: {error.strerror}", f"--ssh {name}=~/.ssh/id_ed25519") from error
    if any(kinds) and len(kinds) > 1:
        raise BadFlag("--ssh", text, "it is one agent or several keys, not both", f"--ssh {name}=$SSH_AUTH_SOCK")


# --- contexts -----------------------------------------------------------------------------------------


def is_git(text: str) -> bool:
    """Whether it names a git repository. InvalidArgument for one that is wrong."""
    from hooper.api.git_url import parse_git_url

    return parse_git_url(text, loose=True) is not None


def is_remote(text: str) -> bool:
    """Whether a context is something that the daemon fetches."""
    return text.startswith(_WEB) or is_git(text)


def contexts(items: Iterable[str]) -> dict[str, Context]:
    """--build-context, by name; a name is that of a stage or an image, "latest" being left out."""
    found = {}
    for text in items:
        example = "--build-context name=directory"
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise BadFlag(
                "--build-context", text, "it is not NAME=PATH, NAME=URL or NAME=docker-image://IMAGE", example
            )
        try:
            known = Reference.parse(name).familiar.removesuffix(":latest")
        except InvalidArgument as error:
            raise BadFlag("--build-context", text, f'"{name}" is no name: {error.why}', example) from error
        found[known] = _context(text, value)
    return found


def _context(text: str, value: str) -> Context:
    scheme, separator, rest = value.partition("://")
    if separator and scheme == "docker-image":
        return Context("image", _named(text, rest))
    if separator and scheme == "oci-layout":
        return _layout(text, rest)
    if os.path.isdir(value):
        return Context("local", "", value)
    if is_git(value):
        return Context("git", value)
    if value.startswith(_WEB):
        return Context("url", value)
    why = f'the scheme "{scheme}" is not known' if separator else f"{value} is not a directory"
    raise BadFlag("--build-context", text, why, "--build-context name=directory")


def _named(text: str, name: str) -> str:
    try:
        Reference.parse(name)
    except InvalidArgument as error:
        example = "--build-context base=docker-image://debian:12"
        raise BadFlag("--build-context", text, f"{error.what}: {error.why}", example) from error
    return name


def _layout(text: str, rest: str) -> Context:
    """PATH[:TAG][@DIGEST] of an OCI layout in a directory."""
    path, at, digest = rest.partition("@")
    tag = ""
    if not os.path.isdir(path) and path.rfind(":") > path.rfind("/"):
        path, _, tag = path.rpartition(":")
    if not os.path.isfile(os.path.join(path, "index.json")):
        why = f"{path or rest} is not an OCI layout: it has no index.json"
        raise BadFlag("--build-context", text, why, "--build-context base=oci-layout://directory:tag")
    return Context("oci-layout", digest if at else tag, path)


# --- the rest -----------------------------------------------------------------------------------------


def annotated(items: Iterable[str]) -> dict[str, str]:
    """[manifest:]KEY=VALUE. An image here is one manifest, without an index to annotate."""
    found = {}
    for text in items:
        key, equals, value = text.partition("=")
        level, colon, rest = key.partition(":")
        if colon and level.partition("[")[0] in ("index", "index-descriptor", "manifest-descriptor"):
            raise BadFlag("--annotation", text, f"an image of one platform has no {level}", "--annotation key=value")
        key = rest if colon and level.partition("[")[0] == "manifest" else key
        if not (key and equals):
            raise BadFlag(
                "--annotation", text, "it is not KEY=VALUE", "--annotation org.opencontainers.image.title=app"
            )
        found[key] = value
    return found


def entitlements(items: Iterable[str]) -> list[str]:
    """What --allow allows; `_OF_CLIENT` have nothing to allow here."""
    found = []
    for text in items:
        if text.partition("=")[0] in _OF_CLIENT:
            continue
        if text not in _ENTITLEMENTS:
            raise BadFlag("--allow", text, f"it is none of {', '.join(_ENTITLEMENTS)}", "--allow network.host")
        found.append(text)
    return found


def arguments(items: Iterable[str]) -> dict[str, str | None]:
    """--build-arg: NAME=VALUE; NAME alone takes its value of the environment, and None if it is not there."""
    found: dict[str, str | None] = {}
    for text in items:
        name, equals, value = text.partition("=")
        if not name:
            raise BadFlag("--build-arg", text, "the name before = is empty", "--build-arg VERSION=1.2")
        found[name] = value if equals else os.environ.get(name)
    return found


def stages(items: Iterable[str]) -> list[str]:
    """--no-cache-filter: names of stages, with commas or one by one."""
    found = [name for text in items for name in text.split(",")]
    if "" in found:
        raise BadFlag("--no-cache-filter", ",".join(found), "a stage's name is empty", "--no-cache-filter build,test")
    return found


def source_date_epoch() -> int | None:
    """Seconds that SOURCE_DATE_EPOCH says, None if it does not. InvalidArgument if they are none."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError as error:
        what = f'invalid value "{text}" of SOURCE_DATE_EPOCH'
        raise InvalidArgument(what, "it is not a number of seconds", "For example: SOURCE_DATE_EPOCH=0") from error
