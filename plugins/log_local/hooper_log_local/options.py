"""The options of local, as users type them (https://docs.docker.com/engine/logging/drivers/local/)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.log_options import boolean, count, refuse_unknown, size
from hooper.api.logs import LogTarget

KNOWN = ("compress", "max-file", "max-size")


class LocalConfig(msgspec.Struct, kw_only=True):
    """Defaults for containers that do not say."""

    max_size: str = "20m"
    """Rotate a file that has grown to this size; "-1" is never."""
    max_file: int = 5
    """How many files are kept, the current one among them."""
    compress: bool = True
    """Compress files that are rotated away."""


class Options(msgspec.Struct, frozen=True):
    """What the options of one container mean."""

    max_size: int
    """Bytes; 0 is no bound."""
    max_file: int
    compress: bool


def log_path(target: LogTarget) -> str:
    return os.path.join(target.directory, "local-logs", "container.log")


def parse(options: Mapping[str, str], config: LocalConfig) -> Options:
    """InvalidArgument, naming the option, if one is unknown or its value is wrong."""
    refuse_unknown(options, KNOWN, "unknown log opt '{}' for log driver local")
    max_size, max_file = (
        size(options, "max-size", config.max_size, unit=1024),
        count(options, "max-file", config.max_file),
    )
    rotates = max_size > 0 and max_file > 1
    if boolean(options, "compress", False) and not rotates:
        raise InvalidArgument(
            "compression cannot be enabled when max file count is 1 or max-size is -1",
            remedy="Only files that are rotated away are compressed: allow more files, or leave compress out.",
        )
    return Options(max_size, max_file, rotates and boolean(options, "compress", config.compress))
