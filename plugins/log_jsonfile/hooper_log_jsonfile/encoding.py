"""Lines as Docker's json-file has them, from bytes; pure.

    {"log":"hello\\n","stream":"stdout","time":"2024-01-02T03:04:05.678901234Z"}

Many lines are encoded at once: all of what differs between two of them is the text.
"""

from __future__ import annotations

import re
import time

_SHORT = {ord('"'): b'\\"', ord("\\"): b"\\\\", ord("\r"): b"\\r"}
_ESCAPES = {byte: _SHORT.get(byte, b"\\u%04x" % byte) for byte in {*range(0x20), *b'"\\<>&'} - {0x0A}}
_PLAIN = bytes(set(range(256)) - _ESCAPES.keys())
"""All that is kept as it is, or looked at apart: what is not ASCII."""
_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_RUN = 64
_second = (-1, "")
_INVALID = re.compile("[\udc80-\udcff]")


def rfc3339nano(time_ns: int) -> str:
    """As Go's time.RFC3339Nano prints UTC: without trailing zeros in the fraction.

    The last second is remembered: lines come in bursts.
    """
    global _second
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    if seconds != _second[0]:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    text = _second[1]
    return f"{text}.{nanoseconds:09}".rstrip("0").rstrip(".") + "Z" if nanoseconds else text + "Z"


def escaped(data: bytes) -> bytes:
    """The inside of a JSON string, newlines left as they are. Bytes that are not UTF-8 become U+FFFD each."""
    ascii_only = data.isascii()
    special = _distinct(data.translate(None, _PLAIN))
    if not ascii_only:
        data = _valid(data)
    # The backslash first, or it would escape the other escapes.
    for byte in sorted(special, key=lambda byte: byte != 0x5C):
        if byte == 0:
            # They come by the page, and each match costs.
            data = data.replace(bytes(_RUN), _ESCAPES[0] * _RUN)
        data = data.replace(bytes((byte,)), _ESCAPES[byte])
    if not ascii_only:
        for separator, escape in _SEPARATORS:
            data = data.replace(separator, escape)
    return data


def _distinct(data: bytes) -> list[int]:
    """The byte values in `data`, of which there are few."""
    found = []
    while data:
        found.append(data[0])
        data = data.translate(None, data[:1])
    return found


def _valid(data: bytes) -> bytes:
    try:
        data.decode()
    except UnicodeDecodeError:
        return _INVALID.sub("\ufffd", data.decode(errors="surrogateescape")).encode()
    return data
