"""A layer's plain bytes, decompressed and hashed on a thread while another one unpacks them."""

from __future__ import annotations

import hashlib
import threading
from queue import Queue

from hooper.content.compression import load_codecs, plain_reader

load_codecs()

_AHEAD = 6
"""Chunks (of 1 MiB at most) that may wait to be unpacked."""


class PlainStream:
    """Reads descriptors to their end. `read` returns the next plain chunk, b"" at the end."""

    def __init__(self, *fds: int, hashed: bool = True) -> None:
        """`fds` are one stream, one after the other; `hashed`: whether its digest is wanted."""
        self.kind, self._read_plain = plain_reader(*fds)
        self.size = 0
        self._hashed = hashed
        self._hash = hashlib.sha256()
        self._chunks: Queue[bytes | BaseException] = Queue(_AHEAD)
        self._ended = False
        self._thread = threading.Thread(target=self._produce, daemon=True)
        self._thread.start()

    def _produce(self) -> None:
        try:
            while chunk := self._read_plain():
                if self._hashed:
                    self._hash.update(chunk)
                self.size += len(chunk)
                self._chunks.put(chunk)
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

    @property
    def diff_id(self) -> str:
        """The digest of all plain bytes; valid once `read` has returned b""."""
        return f"sha256:{self._hash.hexdigest()}"
