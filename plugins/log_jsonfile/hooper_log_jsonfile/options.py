"""The options of json-file, as users type them (https://docs.docker.com/engine/logging/drivers/json-file/)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.log_options import boolean, count, refuse_unknown, size
from hooper.api.logs import LogTarget

KNOWN = ("compress", "env", "env-regex", "labels", "labels-regex", "max-file", "max-size", "tag")


class JsonFileConfig(msgspec.Struct, kw_only=True):
    """Defaults for containers that do not say."""

    max_size: str = ""
    """Rotate a file that has grown to this size; "" is never."""
    max_file: int = 1
    """How many files are kept, the current one among them."""
    compress: bool = False
    """Compress files that are rotated away."""


class Options(msgspec.Struct, frozen=True):
    """What the options of one container mean."""

    max_size: int
    """Bytes; 0 is no bound."""
    max_file: int
    compress: bool


def log_path(target: LogTarget) -> str:
    """Where Docker puts it: <id>-json.log in the container's directory."""
    return os.path.join(target.directory, f"{target.container_id}-json.log")


def parse(options: Mapping[str, str], config: JsonFileConfig) -> Options:
    """InvalidArgument, naming the option, if one is unknown or its value is wrong."""
    refuse_unknown(options, KNOWN, "unknown log opt '{}' for json-file log driver")
    max_size, max_file = size(options, "max-size", config.max_size), count(options, "max-file", config.max_file)
    rotates = max_size > 0 and max_file > 1
    if boolean(options, "compress", False) and not rotates:
        raise InvalidArgument(
            "compress cannot be true when max-file is less than 2 or max-size is not set",
            remedy="Only files that are rotated away are compressed: give both.",
        )
    return Options(max_size, max_file, rotates and boolean(options, "compress", config.compress))
