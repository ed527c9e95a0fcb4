"""Lines as Docker's json-file has them, from bytes; pure.

    {"log":"hello\\n","stream":"stdout","time":"2024-01-02T03:04:05.678901234Z"}

Many lines are encoded at once: all of what differs between two of them is the text.
"""

from __future__ import annotations

import re
import time

LINE_MAX = 16 * 1024
"""A longer line is kept in parts of this size, all but the last without a newline."""

_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\<>&') | {0x0A, 0x7F})
_SHORT = {ord('"'): b'\\"', ord("\\"): b"\\\\", ord("\r"): b"\\r"}
_ESCAPES = {byte: _SHORT.get(byte, b"\\u%04x" % byte) for byte in {*range(0x20), *b'"\\<>&'} - {0x0A}}
_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_INVALID = re.compile("[\udc80-\udcff]")
_CONTINUATION = range(0x80, 0xC0)


def rfc3339nano(time_ns: int) -> str:
    """As Go's time.RFC3339Nano prints UTC: without trailing zeros in the fraction."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{nanoseconds:09}".rstrip("0").rstrip(".") + "Z" if nanoseconds else text + "Z"


def escaped(data: bytes) -> bytes:
    """The inside of a JSON string, newlines left as they are. Bytes that are not UTF-8 become U+FFFD each."""
    special = set(data.translate(None, _PLAIN))
    if not special:
        return data
    if not data.isascii():
        data = _valid(data)
    # The backslash first, or it would escape the other escapes.
    for byte in sorted(special & _ESCAPES.keys(), key=lambda byte: byte != 0x5C):
        data = data.replace(bytes((byte,)), _ESCAPES[byte])
    if not data.isascii():
        for separator, escape in _SEPARATORS:
            data = data.replace(separator, escape)
    return data


def _valid(data: bytes) -> bytes:
    try:
        data.decode()
    except UnicodeDecodeError:
        return _INVALID.sub("\ufffd", data.decode(errors="surrogateescape")).encode()
    return data


def long_line(data: bytes) -> bool:
    """Some line of `data` (its newline counts) is longer than LINE_MAX."""
    start = 0
    while len(data) - start > LINE_MAX:
        end = data.rfind(b"\n", start, start + LINE_MAX)
        if end < 0:
            return True
        start = end + 1
    return False


def cut(line: bytes) -> int:
    """Where to part a line that is longer than LINE_MAX: not within a character."""
    end = LINE_MAX
    while end > LINE_MAX - 3 and line[end] in _CONTINUATION:
        end -= 1
    return LINE_MAX if line[end] in _CONTINUATION else end
