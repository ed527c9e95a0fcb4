"""Entries of the journal as bytes: journald's native protocol, which is also journalctl's export format; pure.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ and https://systemd.io/JOURNAL_EXPORT_FORMATS/: a line `NAME=value` a field,
or, for a value with a newline in it, `NAME`, a newline, its length in 8 bytes, the value, a newline.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_LENGTH = struct.Struct("<Q")
OURS = frozenset(
    (
        *("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_TIMESTAMP", "CONTAINER_ID", "CONTAINER_ID_FULL"),
        *("CONTAINER_NAME", "CONTAINER_TAG", "IMAGE_NAME", "CONTAINER_PARTIAL_MESSAGE", "CONTAINER_PARTIAL_ID"),
        *("CONTAINER_PARTIAL_ORDINAL", "CONTAINER_PARTIAL_LAST", "CONTAINER_LOG_EPOCH", "CONTAINER_LOG_ORDINAL"),
        *("SYSLOG_FACILITY", "SYSLOG_PID", "SYSLOG_RAW", "CODE_FILE", "CODE_LINE", "CODE_FUNC", "TID", "ERRNO"),
    )
)
"""Fields that are no attributes of the container's."""


def encode(fields: Mapping[str, bytes]) -> bytes:
    return b"".join([_field(name, value) for name, value in fields.items()])


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name.encode(), _LENGTH.pack(len(value)), value)
    return b"%s=%s\n" % (name.encode(), value)


def field_name(name: str) -> str:
    """A label's or variable's name as journald accepts it: upper case, digits and _, not first."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper().lstrip("_")


class Export:
    """Entries out of a stream of chunks."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[dict[str, bytes]]:
        """The entries that are complete with it, by name of field."""
        data, at = self._data + data, 0
        entries: list[dict[str, bytes]] = []
        while (found := _entry(data, at)) is not None:
            fields, at = found
            if fields:
                entries.append(fields)
        self._data = data[at:]
        return entries


def _entry(data: bytes, at: int) -> tuple[dict[str, bytes], int] | None:
    """The entry that begins there and where the next one does; None if it is not whole."""
    fields: dict[str, bytes] = {}
    while (end := data.find(b"\n", at)) >= 0:
        line, at = data[at:end], end + 1
        if not line:
            return fields, at
        name, separator, value = line.partition(b"=")
        if not separator:
            if len(data) < at + _LENGTH.size:
                return None
            size = _LENGTH.unpack_from(data, at)[0]
            start = at + _LENGTH.size
            value, at = data[start : start + size], start + size + 1
            if len(data) < at:
                return None
        fields[name.decode("ascii", "replace")] = value
    return None
