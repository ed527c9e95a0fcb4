"""Signals by name or number."""

from __future__ import annotations

import signal

from hooper.api.errors import InvalidArgument


def number(text: str) -> int:
    """ "SIGTERM", "term", "15" -> 15; InvalidArgument otherwise."""
    bare = text.strip().upper()
    if bare.isdigit() and 0 < int(bare) < 65:
        return int(bare)
    name = bare if bare.startswith("SIG") else f"SIG{bare}"
    span = int(signal.SIGRTMAX) - int(signal.SIGRTMIN)
    if name.startswith("SIGRTMIN+") and name[9:].isdigit() and int(name[9:]) <= span:
        return int(signal.SIGRTMIN) + int(name[9:])
    if name.startswith("SIGRTMAX-") and name[9:].isdigit() and int(name[9:]) <= span:
        return int(signal.SIGRTMAX) - int(name[9:])
    try:
        return signal.Signals[name].value
    except KeyError:
        raise InvalidArgument(f"invalid signal: {text}", remedy="`kill -l` lists the names.") from None
