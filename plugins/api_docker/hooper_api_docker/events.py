"""GET /events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from hooper.api.engine import Engine
from hooper.api.model import Event
from hooper_api_docker.http import JSON, Request

NAMED = ("config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume")
"""Filters by the beginning of an object's id or name."""
LONG_ACTIONS = ("exec_create", "exec_start", "health_status")
"""Actions that go on after a colon: where one of them is asked for, beginnings match."""


def shape(event: Event) -> dict[str, Any]:
    """With the fields status, id and from that older clients read; as in dockerd none of them is ever empty."""
    shown: dict[str, Any] = {}
    if event.type in ("container", "image"):
        shown = {"status": event.action, "id": event.id}
        if event.type == "container":
            shown["from"] = event.attributes.get("image", "")
        shown = {key: value for key, value in shown.items() if value}
    return shown | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 10**9,
        "timeNano": event.time_ns,
    }


def matches(event: Event, filters: Mapping[str, Sequence[str]]) -> bool:
    """Values of one filter are alternatives, but for labels; filters add up."""
    return (
        _is_one(event.type, filters.get("type"))
        and _is_one("local", filters.get("scope"))
        and _is_action(event.action, filters.get("event"))
        and all(_has_label(event.attributes, label) for label in filters.get("label") or ())
        and all(_begins(event, filters[kind]) for kind in NAMED if filters.get(kind))
        and (not filters.get("image") or _of_image(event, filters["image"]))
    )


def _is_one(value: str, wanted: Sequence[str] | None) -> bool:
    return not wanted or value in wanted


def _is_action(action: str, wanted: Sequence[str] | None) -> bool:
    if wanted and any(name in LONG_ACTIONS for name in wanted):
        return any(action.startswith(name) for name in wanted)
    return _is_one(action, wanted)


def _has_label(attributes: Mapping[str, str], label: str) -> bool:
    key, equals, value = label.partition("=")
    return key in attributes and (not equals or attributes[key] == value)


def _begins(event: Event, wanted: Sequence[str]) -> bool:
    """As in dockerd, of whatever type the event is."""
    name = event.attributes.get("name", "")
    return any(event.id.startswith(beginning) or name.startswith(beginning) for beginning in wanted)


def _of_image(event: Event, wanted: Sequence[str]) -> bool:
    """An image's name, with or without its tag, is also its containers'."""
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    names = {event.id, name, _without_tag(event.id), _without_tag(name)}
    return any(value in names for value in wanted)


def _without_tag(name: str) -> str:
    head, colon, tag = name.partition("@")[0].rpartition(":")
    return head if colon and "/" not in tag else name


async def events(engine: Engine, request: Request) -> None:
    filters = request.query.filters()
    since, until = request.query.time_ns("since"), request.query.time_ns("until")
    if until and not since:
        since = 1
    async with engine.events.subscribe(since) as stream:
        await request.begin(JSON)
        async with request.while_connected():
            while (event := await _next(stream, until)) is not None:
                if matches(event, filters):
                    await request.write(msgspec.json.encode(shape(event)) + b"\n")
    await request.end()


async def _next(stream: AsyncIterator[Event], until: int) -> Event | None:
    """The next event up to the time `until`, in nanoseconds (0: for ever). Those remembered need no wait."""
    left = max(0.0, (until - time.time_ns()) / 1e9) if until else None
    with anyio.move_on_after(left):
        event = await anext(stream, None)
        if event is not None and not (until and event.time_ns > until):
            return event
    return None
