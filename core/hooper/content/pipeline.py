"""A layer's plain bytes, decompressed on a thread and hashed on another while a third one unpacks them."""

from __future__ import annotations

import hashlib
import threading
from queue import Queue

from hooper.content.compression import load_codecs, plain_reader

load_codecs()

_AHEAD = 6
"""Chunks (of 1 MiB at most) that may wait to be unpacked, and as many to be hashed."""
_SMALL = 4 << 20
"""Bytes of a stream that are not worth a thread to hash them."""


class PlainStream:
    """Reads descriptors to their end. `read` returns the next plain chunk, b"" at the end."""

    def __init__(self, *fds: int, hashed: bool = True) -> None:
        """`fds` are one stream, one after the other; `hashed`: whether its digest is wanted."""
        self.kind, self._read_plain = plain_reader(*fds)
        self.size = 0
        self._hasher = _Hasher() if hashed else None
        self._chunks: Queue[bytes | BaseException] = Queue(_AHEAD)
        self._ended = False
        threading.Thread(target=self._produce, daemon=True).start()

    def _produce(self) -> None:
        try:
            while chunk := self._read_plain():
                if self._hasher is not None:
                    self._hasher.update(chunk, self.size)
                self.size += len(chunk)
                self._chunks.put(chunk)
            if self._hasher is not None:
                self._hasher.finish()
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
        assert self._hasher is not None
        return f"sha256:{self._hasher.hash.hexdigest()}"


class _Hasher:
    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self._chunks: Queue[bytes] = Queue(_AHEAD)
        self._thread: threading.Thread | None = None

    def update(self, chunk: bytes, position: int) -> None:
        """Takes what follows the first `position` bytes."""
        if self._thread is not None:
            self._chunks.put(chunk)
            return
        self.hash.update(chunk)
        if position >= _SMALL:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while chunk := self._chunks.get():
            self.hash.update(chunk)

    def finish(self) -> None:
        """Returns when all is hashed."""
        if self._thread is not None:
            self._chunks.put(b"")
            self._thread.join()
