"""The writing side of journald."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time

from hooper.api.errors import Unavailable
from hooper.api.log_writing import LineSplitter, Patience
from hooper.api.logs import LogTarget, LogWriter
from hooper_log_journald.fields import encode, field_name

SEND_S = 1.0
"""How long a journald that takes nothing is waited for: the container's output stands still meanwhile."""
_PRIORITIES = {"stdout": b"6", "stderr": b"3"}
_ADD_SEALS = 1033
_ALL_SEALS = 0x0F
"""fcntl(2): what journald asks of a file that it is handed."""


class JournaldWriter(LogWriter):
    """An entry a line, or a part of a very long one."""

    def __init__(self, target: LogTarget, path: str) -> None:
        if not os.path.exists(path):
            raise Unavailable("journald is not enabled on this host", f"there is nothing at {path}")
        self._path, self._patience, self._lines = path, Patience(), LineSplitter()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(SEND_S)
        self._fields = encode({name: value.encode() for name, value in _constant(target).items()})
        self._parts = {"stdout": 0, "stderr": 0}
        """How many parts of the present line were sent."""
        self._part_ids = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogWriter."""
        for run, began in self._lines.feed(stream, data, time_ns):
            self._send_run(stream, run, began)

    def close(self) -> None:
        """See LogWriter."""
        try:
            for stream, data, time_ns in self._lines.rest():
                self._send_run(stream, data, time_ns)
        finally:
            self._socket.close()

    def _send_run(self, stream: str, run: bytes, time_ns: int) -> None:
        common = {"PRIORITY": _PRIORITIES[stream], "SYSLOG_TIMESTAMP": _rfc3339(time_ns)}
        *lines, part = run.split(b"\n")
        for line in lines:
            self._send({"MESSAGE": line, **common, **self._partial(stream, last=True)})
        if part:
            self._send({"MESSAGE": part, **common, **self._partial(stream, last=False)})

    def _partial(self, stream: str, *, last: bool) -> dict[str, bytes]:
        """The fields that say which part of a long line it is; none for a whole line."""
        count = self._parts[stream]
        if last and not count:
            return {}
        if not count:
            self._part_ids[stream] = os.urandom(32).hex().encode()
        self._parts[stream] = 0 if last else count + 1
        fields = {
            "CONTAINER_PARTIAL_ID": self._part_ids[stream],
            "CONTAINER_PARTIAL_ORDINAL": b"%d" % (count + 1),
            "CONTAINER_PARTIAL_LAST": b"true" if last else b"false",
        }
        return fields if last else {**fields, "CONTAINER_PARTIAL_MESSAGE": b"true"}

    def _send(self, fields: dict[str, bytes]) -> None:
        if not self._patience.may_try:
            raise OSError("journald is away")
        entry = self._fields + encode(fields)
        try:
            try:
                # By its path each time: a journald that was started anew has another socket.
                self._socket.sendto(entry, self._path)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                self._send_file(entry)
        except OSError:
            self._patience.failed()
            raise
        self._patience.worked()

    def _send_file(self, entry: bytes) -> None:
        """What is too large for a datagram goes as a sealed file in memory."""
        memory = os.memfd_create("hooper-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            written = 0
            while written < len(entry):
                written += os.write(memory, entry[written:])
            fcntl.fcntl(memory, _ADD_SEALS, _ALL_SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", memory))
            self._socket.sendmsg([b""], [rights], 0, self._path)
        finally:
            os.close(memory)


def _constant(target: LogTarget) -> dict[str, str]:
    """The fields of every entry, with Docker's names."""
    tag = target.tag_or_id
    attributes = {field_name(name): value for name, value in target.attributes.items()}
    attributes.pop("", None)
    return {
        "CONTAINER_ID": target.container_id[:12],
        "CONTAINER_ID_FULL": target.container_id,
        "CONTAINER_NAME": target.container_name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": target.image,
        "SYSLOG_IDENTIFIER": tag,
        **attributes,
    }


def _rfc3339(time_ns: int) -> bytes:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09}Z").encode()
