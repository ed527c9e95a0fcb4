"""A layer's plain bytes, decompressed on a thread and hashed on another while a third one unpacks them."""

from __future__ import annotations

import threading
from queue import Queue

from hooper.content.compression import load_codecs, plain_reader
from hooper.content.hashing import BackgroundHash

load_codecs()

_AHEAD = 6
"""Chunks (of 1 MiB at most) that may wait to be unpacked."""


class PlainStream:
    """Reads descriptors to their end. `read` returns the next plain chunk, b"" at the end."""

    def __init__(self, *fds: int, hashed: bool = True) -> None:
        """`fds` are one stream, one after the other; `hashed`: whether its digest is wanted."""
        self.kind, self._read_plain = plain_reader(*fds)
        self.size = 0
        self.diff_id = ""
        """The digest of all plain bytes, once `read` has returned b""; "" if it is not wanted."""
        self._hash = BackgroundHash() if hashed else None
        self._chunks: Queue[bytes | BaseException] = Queue(_AHEAD)
        self._ended = False
        threading.Thread(target=self._produce, daemon=True).start()

    def _produce(self) -> None:
        try:
            while chunk := self._read_plain():
                if self._hash is not None:
                    self._hash.update(chunk)
                self.size += len(chunk)
                self._chunks.put(chunk)
            if self._hash is not None:
                self.diff_id = self._hash.finish()
            self._chunks.put(b"")
        except BaseException as error:
            self._chunks.put(error)

    def read(self) -> bytes:
        if self._ended:
            return b""
        chunk = self._chunks.get()
        if isinstance(chunk, BaseException):
            self._ended = True
            raise chunk
        self._ended = not chunk
        return chunk
