"""Options of log drivers as users type them (https://docs.docker.com/engine/logging/configure/); pure.

Each function raises InvalidArgument with the name of the option and what it takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hooper.api.errors import InvalidArgument

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_POWERS = " kmgtp"
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def refuse_unknown(options: Mapping[str, str], known: Sequence[str], message: str) -> None:
    """`message` is Docker's for this driver, with a `{}` for the option's name."""
    for name in options:
        if name not in known:
            raise InvalidArgument(message.format(name), remedy=f"It knows: {', '.join(known)}.")


def size(options: Mapping[str, str], name: str, default: str = "", unit: int = 1000) -> int:
    """Bytes of "10m" and the like; 0, no bound, for "" and "-1". `unit` is what a k is."""
    text = options.get(name, default)
    if text in ("", "-1"):
        return 0
    match = _SIZE.fullmatch(text)
    found = int(float(match[1]) * unit ** _POWERS.index(match[2].lower() or " ")) if match else 0
    if found <= 0:
        raise wrong(name, text, "a size such as 10m or 500k")
    return found


def count(options: Mapping[str, str], name: str, default: int) -> int:
    """1 or more."""
    text = options.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise wrong(name, text, "a number of 1 or more")
    return int(text)


def boolean(options: Mapping[str, str], name: str, default: bool) -> bool:
    """In the forms that Go knows."""
    text = options.get(name, "")
    if not text:
        return default
    if text not in _TRUE + _FALSE:
        raise wrong(name, text, "true or false")
    return text in _TRUE


def wrong(name: str, value: str, allowed: str) -> InvalidArgument:
    return InvalidArgument(f"invalid log opt {name}={value}", f"{name} is {allowed}", "Correct that option.")
