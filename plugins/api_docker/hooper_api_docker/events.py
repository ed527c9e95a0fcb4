"""GET /events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import msgspec

from hooper.api.engine import Engine
from hooper.api.model import Event
from hooper_api_docker.http import JSON, Request

OBJECT_FILTERS = ("container", "image", "volume", "network", "daemon", "builder")
GRACE = 0.2
"""Seconds to hand out remembered events when `until` is past."""


def shape(event: Event) -> dict[str, Any]:
    """With the fields status, id and from that older clients read."""
    shown: dict[str, Any] = {}
    if event.type in ("container", "image"):
        shown = {"status": event.action, "id": event.id}
        if event.type == "container":
            shown["from"] = event.attributes.get("image", "")
    return shown | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 10**9,
        "timeNano": event.time_ns,
    }


def matches(event: Event, filters: Mapping[str, Sequence[str]]) -> bool:
    """Values of one filter are alternatives; filters add up, those that name objects are alternatives too."""
    if not _is_one(event.type, filters.get("type")) or not _is_one("local", filters.get("scope")):
        return False
    actions = filters.get("event")
    if actions and event.action not in actions and event.action.partition(":")[0] not in actions:
        return False
    for label in filters.get("label") or ():
        key, equals, value = label.partition("=")
        if key not in event.attributes or (equals and event.attributes[key] != value):
            return False
    named = [kind for kind in OBJECT_FILTERS if filters.get(kind)]
    return not named or any(_names(event, kind, filters[kind]) for kind in named)


def _is_one(value: str, wanted: Sequence[str] | None) -> bool:
    return not wanted or value in wanted


def _names(event: Event, kind: str, wanted: Sequence[str]) -> bool:
    """Whether the event is about one of these objects. An image's name is also its containers'."""
    name = event.attributes.get("name", "")
    if kind == "image" and event.type in ("image", "container"):
        image = event.attributes.get("image", "") if event.type == "container" else name
        names = {event.id, image, image.partition("@")[0].rpartition(":")[0] or image}
        return any(value in names or value.removesuffix(":latest") in names for value in wanted)
    if event.type != kind:
        return False
    return any(value in (event.id, name) or (value and event.id.startswith(value)) for value in wanted)


async def events(engine: Engine, request: Request) -> None:
    filters = request.query.filters()
    since, until = request.query.time_ns("since"), request.query.time_ns("until")
    if until and not since:
        since = 1
    left = max(GRACE, (until - time.time_ns()) / 1e9) if until else None
    async with engine.events.subscribe(since) as stream:
        await request.begin(JSON)
        async with request.while_connected():
            with anyio.move_on_after(left):
                async for event in stream:
                    if until and event.time_ns > until:
                        break
                    if matches(event, filters):
                        await request.write(msgspec.json.encode(shape(event)) + b"\n")
    await request.end()
