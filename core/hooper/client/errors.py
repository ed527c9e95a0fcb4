"""What can go wrong between the client and a daemon."""

from __future__ import annotations

from hooper.api.errors import HooperError


class ApiError(HooperError):
    """The daemon answered with an error. `status` is the HTTP status, `message` the daemon's own text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class ConnectionFailed(HooperError):
    """Nobody answers at the address, or what answers does not speak HTTP."""


def unreachable(address: str, reason: str) -> ConnectionFailed:
    """The error for an address at which no daemon listens."""
    return ConnectionFailed(
        f"Cannot connect to the hooper daemon at {address}",
        reason,
        "Is the daemon running? `hooper daemon` starts one; -H and HOOPER_HOST give the address of another.",
    )


def denied(address: str) -> ConnectionFailed:
    """The error for a socket that the user may not open."""
    return ConnectionFailed(
        f"permission denied while connecting to the hooper daemon at {address}",
        remedy="Add yourself to the group hooper (and log in again), or use sudo.",
    )
