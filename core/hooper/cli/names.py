"""The names of what a daemon has: for completion, and for who mistyped one."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hooper.client.api import ApiClient

STATES = {
    "container": None,
    "running": ["running"],
    "stoppable": ["running", "paused", "restarting"],
    "paused": ["paused"],
    "startable": ["created", "exited"],
}
"""Kinds of containers, with the states that they have."""


def names(client: ApiClient, kind: str) -> list[str]:
    """The names of one kind of thing: image, network, volume, or one of STATES. ApiError, ConnectionFailed."""
    if kind in STATES:
        states = STATES[kind]
        filters = json.dumps({"status": states}) if states else None
        found = client.get("/containers/json", {"all": True, "filters": filters})
        return [name for one in found for name in _own_names(one.get("Names") or ())]
    if kind == "image":
        found = client.get("/images/json")
        return sorted({tag for one in found for tag in one.get("RepoTags") or () if not tag.startswith("<none>")})
    if kind == "volume":
        return sorted(one["Name"] for one in client.get("/volumes")["Volumes"] or ())
    return sorted(one["Name"] for one in client.get("/networks"))


def _own_names(given: list[str] | tuple[str, ...]) -> Iterator[str]:
    """Without the slash, and without aliases by links ("/web/db")."""
    for name in given:
        if "/" not in (own := name.removeprefix("/")):
            yield own
