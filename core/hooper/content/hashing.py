"""sha256 on a thread of its own, beside whatever else is done with the same bytes."""

from __future__ import annotations

import hashlib
import threading
from queue import Queue

_AHEAD = 6
"""Chunks that may wait to be hashed."""
_SMALL = 4 << 20
"""Bytes that are not worth a thread."""


class BackgroundHash:
    """What is given to it, bytes or a view of bytes, must not change afterwards."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._chunks: Queue[bytes | memoryview] = Queue(_AHEAD)
        self._thread: threading.Thread | None = None
        self.size = 0
        """Bytes so far."""

    def update(self, chunk: bytes | memoryview) -> None:
        if not chunk:
            return  # to the thread that would be the end
        self.size += len(chunk)
        if self._thread is not None:
            self._chunks.put(chunk)
            return
        self._hash.update(chunk)
        if self.size >= _SMALL:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while chunk := self._chunks.get():
            self._hash.update(chunk)

    def finish(self) -> str:
        """The digest of all, "sha256:…". Once, and in a process that lives on in any case: it ends the thread."""
        if self._thread is not None:
            self._chunks.put(b"")
            self._thread.join()
        return f"sha256:{self._hash.hexdigest()}"
