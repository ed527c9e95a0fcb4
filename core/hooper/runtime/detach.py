"""The keys that detach a client from a terminal."""

from __future__ import annotations


class DetachKeys:
    """Looks for a key sequence in a stream that comes in pieces.

    A beginning of the sequence is held back until the next piece shows whether it goes on.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on to the process, and whether the sequence was found; what follows it is dropped."""
        if not self._keys:
            return data, False
        data = self._held + data
        self._held = b""
        before, found, _ = data.partition(self._keys)
        if found:
            return before, True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length], False
        return data, False
