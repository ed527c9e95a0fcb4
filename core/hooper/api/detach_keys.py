"""Detach keys, as users write them."""

from __future__ import annotations

from hooper.api.errors import InvalidArgument

DEFAULT = b"\x10\x11"
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """ "ctrl-p,ctrl-q" as the bytes that a terminal sends; "" is that default."""
    if not text:
        return DEFAULT
    return bytes(_key(key, text) for key in text.split(","))


def _key(key: str, whole: str) -> int:
    lower = key.lower()
    if len(key) == 1 and key.isascii():
        return ord(key)
    if lower.startswith("ctrl-") and len(key) == 6:
        last = lower[5]
        if last in _SPECIAL:
            return _SPECIAL[last]
        if "a" <= last <= "z":
            return ord(last) - 96
    raise InvalidArgument(
        f'invalid detach keys "{whole}"',
        f'"{key}" is not a key',
        'Write letters, or ctrl- and one of a-z @ [ \\ ] ^ _, separated by commas: "ctrl-p,ctrl-q".',
    )
