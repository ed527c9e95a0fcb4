"""The source's own question for the outcome of a move whose client has gone, where it can reach the target."""

from __future__ import annotations

from typing import Any

from hooper.api.errors import HooperError
from hooper.client.address import parse_address
from hooper.client.api import ApiClient

_SECONDS = 10.0


def ask(to: str, transfer: str, engine: str) -> str:
    """ "committed", "never" (and never will be), or "" if that cannot be told now. Blocks.

    The address is the client's: whoever answers there counts only if it is the engine that the move went to.
    """
    try:
        address = parse_address(to)
        if address.ssh:
            return ""  # with the keys of the user, which the daemon has not
        connection = address.connect(_SECONDS)
        connection.settimeout(_SECONDS)
        client = ApiClient(address, connection)
        try:
            answer: dict[str, Any] = client.get("/hooper/moving")
            if answer["engine"] != engine:
                return ""
            answer = client.delete(f"/hooper/transfers/{transfer}")
        finally:
            client.close()
    except (HooperError, OSError, ValueError, KeyError, TypeError):
        return ""
    if answer.get("engine") != engine:
        return ""
    return {"committed": "committed", "": "never"}.get(str(answer.get("state")), "")
