"""The options of journald, as users type them (https://docs.docker.com/engine/logging/drivers/journald/)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hooper.api.log_options import refuse_unknown

KNOWN = ("env", "env-regex", "labels", "labels-regex", "tag")


class JournaldConfig(msgspec.Struct, kw_only=True):
    """For a journal that is not in its usual place."""

    socket: str = "/run/systemd/journal/socket"
    """Where journald takes entries."""
    directory: str = ""
    """Where its files are; "" is where journalctl looks by itself."""


def check(options: Mapping[str, str]) -> None:
    """InvalidArgument, naming the option, if one is unknown."""
    refuse_unknown(options, KNOWN, "unknown log opt '{}' for journald log driver")
