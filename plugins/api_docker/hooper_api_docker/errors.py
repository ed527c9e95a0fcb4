"""Errors as HTTP answers: the one table from kinds to status."""

from __future__ import annotations

from typing import Any

from hooper.api.errors import HooperError, StepFailed, no_space

STATUS = {
    "invalid-argument": 400,
    "start-failed": 400,
    "step-failed": 400,
    "unauthorized": 500,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "not-modified": 304,
    "unavailable": 503,
    "unsupported": 501,
    "skip-driver": 501,
    "data-loss": 500,
    "no-space": 500,
    "internal": 500,
}
"""By `HooperError.kind`. Docker answers a failing registry with 500; 503 says the same, and that trying
again may help. A registry that refuses credentials is 500 too, as Docker has it: at a 401 clients ask for
a password, which only `POST /auth` wants."""


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


def unwrap(error: BaseException) -> BaseException:
    """The error inside groups of one, as task groups raise them; of several the first that is not
    the client's disappearance. A full disk is told in words."""
    while isinstance(error, BaseExceptionGroup):
        inner = [e for e in error.exceptions if not isinstance(unwrap(e), ClientGone)]
        error = inner[0] if inner else error.exceptions[0]
    return no_space(error) or error


def status_of(error: BaseException) -> int:
    return STATUS.get(error.kind, 500) if isinstance(error, HooperError) else 500


def message_of(error: BaseException) -> str:
    """What clients show: what: why, then the remedy on its own line."""
    if isinstance(error, HooperError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    # Names of files may have bytes that no text has.
    return text.encode("utf-8", "backslashreplace").decode()


def in_band(error: BaseException) -> dict[str, Any]:
    """The error as the last message of a progress stream; the code of a build's command is the client's exit code."""
    text = message_of(error)
    detail: dict[str, Any] = {"message": text}
    if isinstance(error, StepFailed):
        detail = {"code": error.exit_code, **detail}
    return {"errorDetail": detail, "error": text}
