"""Errors as HTTP answers: the one table from kinds to status."""

from __future__ import annotations

from hooper.api.errors import HooperError

STATUS = {
    "invalid-argument": 400,
    "start-failed": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "not-modified": 304,
    "unavailable": 503,
    "unsupported": 501,
    "skip-driver": 501,
    "data-loss": 500,
    "internal": 500,
}
"""By `HooperError.kind`. Docker answers a failing registry with 500; 503 says the same, and that trying
again may help."""


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


def unwrap(error: BaseException) -> BaseException:
    """The error inside groups of one, as task groups raise them; of several the first that is not
    the client's disappearance."""
    while isinstance(error, BaseExceptionGroup):
        inner = [e for e in error.exceptions if not isinstance(unwrap(e), ClientGone)]
        error = inner[0] if inner else error.exceptions[0]
    return error


def status_of(error: BaseException) -> int:
    return STATUS.get(error.kind, 500) if isinstance(error, HooperError) else 500


def message_of(error: BaseException) -> str:
    """What clients show: what: why, then the remedy on its own line."""
    if isinstance(error, HooperError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
