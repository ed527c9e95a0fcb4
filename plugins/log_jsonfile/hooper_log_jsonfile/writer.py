"""The writing side of json-file."""

from __future__ import annotations

import os

import msgspec

from hooper.api.logs import LogTarget, LogWriter
from hooper_log_jsonfile.encoding import LINE_MAX, cut, escaped, long_line, rfc3339nano
from hooper_log_jsonfile.options import Options, attributes, log_path

_PREFIX = b'{"log":"'


class _Partial:
    """The end of a stream that has no newline yet."""

    def __init__(self) -> None:
        self.data = b""
        self.time_ns = 0
        """When the first part of the line came; all its parts carry that time."""


class JsonFileWriter(LogWriter):
    """Appends to <id>-json.log; whole lines are in the file when `write` returns."""

    def __init__(self, target: LogTarget, options: Options) -> None:
        self._path, self._options = log_path(target), options
        asked = attributes(options, target.labels)
        attrs = b'"attrs":' + msgspec.json.encode(asked) + b"," if asked else b""
        self._middle = {name: b'","stream":"%s",%s"time":"' % (name.encode(), attrs) for name in ("stdout", "stderr")}
        self._partial = {name: _Partial() for name in ("stdout", "stderr")}
        self._open()

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogWriter."""
        partial = self._partial[stream]
        if partial.data:
            data = partial.data + data
        else:
            partial.time_ns = time_ns
        if len(data) > LINE_MAX and long_line(data):
            output, partial.data = self._encode_long(stream, data, time_ns)
        else:
            end = data.rfind(b"\n") + 1
            output = self._encode(stream, data[:end] if end < len(data) else data, time_ns) if end else b""
            partial.data = data[end:]
            if end:
                partial.time_ns = time_ns
        if output:
            self._append(output)

    def close(self) -> None:
        """See LogWriter."""
        try:
            for stream, partial in self._partial.items():
                if partial.data:
                    self._append(self._part(stream, partial.data, partial.time_ns))
                    partial.data = b""
        finally:
            os.close(self._fd)

    def _suffix(self, stream: str, time_ns: int) -> bytes:
        return self._middle[stream] + rfc3339nano(time_ns).encode() + b'"}\n'

    def _encode(self, stream: str, lines: bytes, time_ns: int) -> bytes:
        """Of whole lines, none too long."""
        between = b"\\n" + self._suffix(stream, time_ns) + _PREFIX
        encoded = escaped(lines).replace(b"\n", between)
        return b"".join((_PREFIX, memoryview(encoded)[: -len(_PREFIX)]))

    def _part(self, stream: str, data: bytes, time_ns: int) -> bytes:
        return _PREFIX + escaped(data) + self._suffix(stream, time_ns)

    def _encode_long(self, stream: str, data: bytes, time_ns: int) -> tuple[bytes, bytes]:
        """The encoding of all but the last, incomplete part of a line, and that."""
        output = []
        line_time = self._partial[stream].time_ns
        start, size = 0, len(data)
        while start < size:
            end = data.find(b"\n", start, start + LINE_MAX) + 1
            if end:
                output.append(self._encode(stream, data[start:end], line_time))
                line_time = time_ns
            elif size - start > LINE_MAX:
                end = start + cut(data[start : start + LINE_MAX + 1])
                output.append(self._part(stream, data[start:end], line_time))
            else:
                break
            start = end
        self._partial[stream].time_ns = line_time
        return b"".join(output), data[start:]

    # --- the file ---

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            # A writer before this one was killed within a line.
            self._write_all(b"\n")

    def _append(self, output: bytes) -> None:
        """A file takes records until it has reached its size, and one more begins the next."""
        limit = self._options.max_size
        while output and limit and self._size + len(output) > limit:
            if self._size >= limit:
                self._rotate()
                continue
            end = output.find(b"\n", limit - self._size - 1) + 1
            self._write_all(output[:end])
            output = output[end:]
        if output:
            self._write_all(output)

    def _write_all(self, output: bytes) -> None:
        written = os.write(self._fd, output)
        try:
            while written < len(output):
                written += os.write(self._fd, memoryview(output)[written:])
        except OSError:
            # No half record, or the next one would be lost with it.
            os.ftruncate(self._fd, self._size)
            raise
        self._size += written

    def _rotate(self) -> None:
        if self._options.max_file == 1:
            os.ftruncate(self._fd, 0)
            self._size = 0
            return
        os.close(self._fd)
        for number in range(self._options.max_file - 1, 0, -1):
            _move(self._path if number == 1 else numbered(self._path, number - 1), numbered(self._path, number))
        self._open()


def numbered(path: str, number: int) -> str:
    """A rotated file's path; the higher the number, the older."""
    return f"{path}.{number}"


def _move(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass
