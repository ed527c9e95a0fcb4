"""The log driver that keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping

from hooper.api.logs import LogDriver, LogTarget, LogWriter


class _Discard(LogWriter):
    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """Drops it."""

    def close(self) -> None:
        """Nothing is pending."""


class NoneDriver(LogDriver):
    """Takes any option, as Docker does, and has a use for none."""

    readable = False

    def check(self, options: Mapping[str, str]) -> None:
        """Everything is accepted."""

    def writer(self, target: LogTarget) -> LogWriter:
        """One that drops what it is given."""
        return _Discard()
