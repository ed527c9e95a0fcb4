"""What can go wrong between the client and a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hooper.api.errors import HooperError

if TYPE_CHECKING:
    from hooper.client.api import ApiClient


class ApiError(HooperError):
    """The daemon answered with an error. `status` is the HTTP status, `message` the daemon's own text.

    `client` is whom it was told, if more may be asked of that daemon.
    """

    def __init__(self, status: int, message: str, client: ApiClient | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.client = status, message, client


class ConnectionFailed(HooperError):
    """Nobody answers at the address, or what answers does not speak HTTP."""


def unreachable(address: str, reason: str) -> ConnectionFailed:
    """The error for an address at which no daemon listens."""
    return ConnectionFailed(
        f"Cannot connect to the hooper daemon at {address}",
        reason,
        "Is the daemon running? `hooper daemon` starts one; -H and HOOPER_HOST give the address of another.",
    )


def broken(address: str, reason: str) -> ConnectionFailed:
    """The error for a connection that ended before the answer; ssh's often do for a reason that ssh has told."""
    remedy = ""
    if address.startswith("ssh://"):
        host = address.removeprefix("ssh://").partition("/")[0]
        remedy = f"ssh must get there without a question, and find hooper: try `ssh {host} hooper version`."
    return ConnectionFailed(f"the connection to the daemon at {address} broke", reason, remedy)


def denied(address: str) -> ConnectionFailed:
    """The error for a socket that the user may not open."""
    return ConnectionFailed(
        f"permission denied while connecting to the hooper daemon at {address}",
        remedy="Add yourself to the group hooper (and log in again), or use sudo.",
    )
