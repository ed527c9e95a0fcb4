"""The options of json-file, as users type them (https://docs.docker.com/engine/logging/drivers/json-file/)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.logs import LogTarget

KNOWN = ("compress", "env", "env-regex", "labels", "labels-regex", "max-file", "max-size", "tag")

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_POWERS = " kmgtp"


class JsonFileConfig(msgspec.Struct, kw_only=True):
    """Defaults for containers that do not say."""

    max_size: str = ""
    """Rotate a file that has grown to this size; "" is never."""
    max_file: int = 1
    """How many files are kept, the current one among them."""


class Options(msgspec.Struct, frozen=True):
    """What the options of one container mean."""

    max_size: int
    """Bytes; 0 is no bound."""
    max_file: int
    labels: tuple[str, ...]
    """Names of the container's labels that go into each line."""
    labels_regex: str


def log_path(target: LogTarget) -> str:
    """Where Docker puts it: <id>-json.log in the container's directory."""
    return os.path.join(target.directory, f"{target.container_id}-json.log")


def parse(options: Mapping[str, str], config: JsonFileConfig) -> Options:
    """InvalidArgument, naming the option, if one is unknown or its value is wrong.

    `env`, `env-regex` and `tag` are accepted and add nothing; files are never compressed.
    """
    for name in options:
        if name not in KNOWN:
            raise InvalidArgument(
                f"unknown log opt '{name}' for json-file log driver", remedy=f"It knows: {', '.join(KNOWN)}."
            )
    if options.get("compress", "false") not in ("true", "false"):
        raise _wrong("compress", options["compress"], "true or false")
    regex = options.get("labels-regex", "")
    try:
        if regex:
            re.compile(regex)
    except re.error as error:
        raise _wrong("labels-regex", regex, f"a regular expression ({error})") from error
    return Options(
        max_size=_size(options.get("max-size", config.max_size)),
        max_file=_count(options.get("max-file", str(config.max_file))),
        labels=tuple(name for name in options.get("labels", "").split(",") if name),
        labels_regex=regex,
    )


def attributes(options: Options, labels: Mapping[str, str]) -> dict[str, str]:
    """The container's labels that were asked for."""
    if not (options.labels or options.labels_regex):
        return {}
    return {
        name: value
        for name, value in labels.items()
        if name in options.labels or (options.labels_regex and re.search(options.labels_regex, name))
    }


def _size(text: str) -> int:
    if text in ("", "-1"):
        return 0
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * 1000 ** _POWERS.index(match[2].lower() or " ")) if match else 0
    if size <= 0:
        raise _wrong("max-size", text, "a size such as 10m or 500k")
    return size


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise _wrong("max-file", text, "a number of 1 or more")
    return int(text)


def _wrong(name: str, value: str, allowed: str) -> InvalidArgument:
    return InvalidArgument(f"invalid log opt {name}={value}", f"{name} is {allowed}", "Correct that option.")
