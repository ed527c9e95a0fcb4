"""The values of flags that are lists of words: KEY=value, files of them, limits, devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from hooper.api.errors import InvalidArgument
from hooper.cli.errors import BadFlag
from hooper.cli.units import parse_moment

T = TypeVar("T")


def checked(flag: str, text: str, parse: Callable[[str], T], example: str) -> T:
    """`parse(text)`, with a ValueError made into an error that names the flag."""
    try:
        return parse(text)
    except ValueError as error:
        raise BadFlag(flag, text, str(error), f"{flag} {example}") from error


def moment(flag: str, text: str) -> str | None:
    """A point in time as the API has it; None for none. InvalidArgument, which is no BadFlag: docker's code is 1."""
    if not text:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise InvalidArgument(
            f'invalid argument "{text}" for {flag}', str(error), f"For example: {flag} 10m"
        ) from error


def pairs(flag: str, items: Iterable[str]) -> dict[str, str]:
    """KEY=value words as a mapping; a word without "=" has an empty value. BadFlag for an empty key."""
    result = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key:
            raise BadFlag(flag, item, "the name before = is empty", f"{flag} key=value")
        result[key] = value
    return result


def environment(items: Iterable[str], files: Iterable[str], inherited: Mapping[str, str]) -> list[str]:
    """The variables of --env-file, then of --env. A name alone takes its value of `inherited`, if it is there."""
    lines = [line for file in files for line in read_lines("--env-file", file)]
    for item in items:
        if not item.partition("=")[0]:
            raise BadFlag("--env", item, "the name of the variable is empty", "--env KEY=value")
    result = []
    for item in [*lines, *items]:
        if "=" in item:
            result.append(item)
        elif item in inherited:
            result.append(f"{item}={inherited[item]}")
    return result


def read_lines(flag: str, path: str) -> list[str]:
    """The lines of a file of KEY=value, without comments and empty ones; BadFlag if it cannot be used."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.rstrip("\n").lstrip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or "" if isinstance(error, OSError) else "it is not UTF-8"
        raise BadFlag(flag, path, why) from error
    kept = [line for line in lines if line and not line.startswith("#")]
    for line in kept:
        name = line.partition("=")[0]
        if not name or any(character.isspace() for character in name):
            raise BadFlag(flag, path, f'the line "{line}" does not start with the name of a variable', "")
    return kept


def labels(items: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """The labels of --label-file, then of --label. A line without "=" names none: docker leaves it out as well."""
    lines = [line for file in files for line in read_lines("--label-file", file) if "=" in line]
    return pairs("--label", [*lines, *items])


def ulimits(items: Iterable[str]) -> list[dict[str, Any]]:
    """NAME=SOFT[:HARD] as the API's objects; -1 is unlimited."""
    result = []
    for item in items:
        name, equals, limits = item.partition("=")
        soft, colon, hard = limits.partition(":")
        hard = hard if colon else soft
        try:
            low, high = int(soft), int(hard)
        except ValueError:
            low = high = 0
            equals = ""
        if not equals or not name:
            raise BadFlag("--ulimit", item, "it is not NAME=SOFT[:HARD]", "--ulimit nofile=1024:4096")
        if high != -1 and (low > high or low == -1):
            raise BadFlag("--ulimit", item, "the soft limit is above the hard one", "--ulimit nofile=1024:4096")
        result.append({"Name": name.lower(), "Soft": low, "Hard": high})
    return result


def devices(items: Iterable[str]) -> list[dict[str, str]]:
    """HOST[:CONTAINER][:rwm] as the API's objects."""
    result = []
    for item in items:
        host, *rest = item.split(":")
        access = rest.pop() if rest and not rest[-1].startswith("/") else "rwm"
        if not host.startswith("/") or len(rest) > 1 or not access or set(access) - set("rwm"):
            raise BadFlag("--device", item, "it is not HOST[:CONTAINER][:rwm]", "--device /dev/fuse:/dev/fuse:rw")
        inside = rest[0] if rest else host
        result.append({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": access})
    return result


def device_rates(flag: str, items: Iterable[str], parse: Callable[[str], int]) -> list[dict[str, Any]]:
    """PATH:RATE as the API's objects."""
    result = []
    for item in items:
        path, colon, rate = item.rpartition(":")
        if not colon or not path.startswith("/"):
            raise BadFlag(flag, item, "it is not PATH:RATE", f"{flag} /dev/sda:1000")
        result.append({"Path": path, "Rate": checked(flag, rate, parse, "/dev/sda:1000")})
    return result


def restart_policy(text: str) -> dict[str, Any]:
    """no, always, unless-stopped or on-failure[:TIMES] as the API's object."""
    name, colon, count = text.partition(":")
    known = name in ("no", "always", "unless-stopped", "on-failure")
    if not known or (colon and (name != "on-failure" or not count.isdigit())):
        raise BadFlag(
            "--restart", text, "it is not no, always, unless-stopped or on-failure[:TIMES]", "--restart on-failure:3"
        )
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def hosts(items: Iterable[str]) -> list[str]:
    """NAME:ADDRESS or NAME=ADDRESS as the API's NAME:ADDRESS."""
    result = []
    for item in items:
        cut = min((at for at in (item.find("="), item.find(":")) if at > 0), default=-1)
        if cut < 0 or not item[cut + 1 :]:
            raise BadFlag("--add-host", item, "it is not NAME:ADDRESS", "--add-host db:10.0.0.5")
        result.append(f"{item[:cut]}:{item[cut + 1 :].strip('[]')}")
    return result


def capabilities(added: Iterable[str], dropped: Iterable[str]) -> tuple[list[str], list[str]]:
    """(CapAdd, CapDrop): the kernel's names in order; ALL stands for every other, and what is added is not dropped."""

    def named(words: Iterable[str]) -> set[str]:
        names = {word.strip().upper() for word in words}
        full = {name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in names}
        return {"ALL"} if "ALL" in full else full

    adds, drops = named(added), named(dropped)
    return sorted(adds), sorted(drops - adds)


def security_options(items: Iterable[str]) -> list[str]:
    """--security-opt words; a seccomp profile's file is read here, for the daemon may not see it."""
    result = []
    for item in items:
        key, equals, value = item.partition("=")
        if key == "seccomp" and equals and value not in ("unconfined", "builtin"):
            item = f"seccomp={_compact_json(item, value)}"
        result.append(item)
    return result


def _compact_json(item: str, path: str) -> str:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            return json.dumps(json.load(file), separators=(",", ":"))
    except OSError as error:
        raise BadFlag(
            "--security-opt", item, f"{path}: {error.strerror}", "--security-opt seccomp=unconfined"
        ) from error
    except ValueError as error:
        raise BadFlag("--security-opt", item, f"{path} is not JSON: {error}") from error


def filters(items: Iterable[str]) -> str | None:
    """KEY=value words of --filter as the API's JSON; None if there are none."""
    import json

    result: dict[str, dict[str, bool]] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise BadFlag("--filter", item, "it is not KEY=VALUE", "--filter name=web")
        result.setdefault(key.strip().lower(), {})[value.strip()] = True
    return json.dumps(result) if result else None


def absolute(path: str) -> str:
    """A host's path as the daemon must see it: "." and "~" belong to the client."""
    return os.path.abspath(os.path.expanduser(path))


def one_of(flag: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices` (or empty); BadFlag otherwise."""
    if value and value not in choices:
        raise BadFlag(flag, value, f"it is none of {', '.join(choices)}", f"{flag} {choices[0]}")
    return value


def boolean(flag: str, text: str) -> bool:
    """The words for true and false that flags take; BadFlag for another."""
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise BadFlag(flag, text, "it is neither true nor false")
