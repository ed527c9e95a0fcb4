"""The writing side of json-file."""

from __future__ import annotations

import msgspec

from hooper.api.log_files import RotatingFile
from hooper.api.log_writing import LineSplitter
from hooper.api.logs import LogTarget, LogWriter
from hooper_log_jsonfile.encoding import escaped, rfc3339nano
from hooper_log_jsonfile.options import Options, log_path

_PREFIX = b'{"log":"'


class JsonFileWriter(LogWriter):
    """Appends to <id>-json.log; whole lines are in the file when `write` returns."""

    def __init__(self, target: LogTarget, options: Options) -> None:
        asked = {**target.attributes, "tag": target.tag} if target.tag else target.attributes
        attrs = b'"attrs":' + _go_json(asked) + b"," if asked else b""
        self._middle = {name: b'","stream":"%s",%s"time":"' % (name.encode(), attrs) for name in ("stdout", "stderr")}
        self._lines = LineSplitter()
        self._file = RotatingFile(
            log_path(target), options.max_size, options.max_file, options.compress, _end_of_record
        )
        if self._file.size and self._file.read(1, self._file.size - 1) != b"\n":
            # A writer before this one was killed within a line.
            self._file.append(b"\n")

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogWriter."""
        encoded = [self._encode(stream, run, time) for run, time in self._lines.feed(stream, data, time_ns)]
        if encoded:
            self._file.append(encoded[0] if len(encoded) == 1 else b"".join(encoded))

    def close(self) -> None:
        """See LogWriter."""
        try:
            for stream, data, time_ns in self._lines.rest():
                self._file.append(self._encode(stream, data, time_ns))
        finally:
            self._file.close()

    def _encode(self, stream: str, run: bytes, time_ns: int) -> bytes:
        """Of whole lines, or of a part of one."""
        suffix = self._middle[stream] + rfc3339nano(time_ns).encode() + b'"}\n'
        if run[-1:] != b"\n":
            return _PREFIX + escaped(run) + suffix
        encoded = escaped(run).replace(b"\n", b"\\n" + suffix + _PREFIX)
        return b"".join((_PREFIX, memoryview(encoded)[: -len(_PREFIX)]))


def _end_of_record(records: bytes, offset: int) -> int:
    return records.find(b"\n", offset - 1) + 1


def _go_json(value: dict[str, str]) -> bytes:
    """As Go writes it: in order of name, and safe within HTML."""
    encoded = msgspec.json.encode(dict(sorted(value.items())))
    return encoded.replace(b"&", b"\\u0026").replace(b"<", b"\\u003c").replace(b">", b"\\u003e")
