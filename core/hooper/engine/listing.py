"""Which containers a list shows: Docker's filters."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence

from hooper.api.engine import Filters
from hooper.api.errors import HooperError, InvalidArgument, NotFound
from hooper.api.model import Container
from hooper.engine import filters as matching
from hooper.engine.clock import seconds
from hooper.engine.core import Core
from hooper.engine.ports import parse_port

KNOWN = (
    "ancestor before exited expose health id isolation is-task label name network publish since status volume"
).split()
VALUES: Mapping[str, Sequence[str]] = {
    "status": ("created", "restarting", "running", "removing", "paused", "exited", "dead"),
    "health": ("starting", "healthy", "unhealthy", "none"),
    "is-task": ("true", "false", "1", "0"),
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


async def chosen(core: Core, *, all: bool, limit: int, filters: Filters) -> list[Container]:
    """Newest first."""
    _check(filters)
    everything = all or limit > 0 or "status" in filters
    found = [c for c in core.store.all() if everything or c.state.running]
    found.sort(key=lambda container: container.created, reverse=True)
    images = await _ancestors(core, filters.get("ancestor", ()))
    bounds = _bounds(core, filters)
    found = [c for c in found if _matches(c, filters, images, bounds)]
    return found[:limit] if limit > 0 else found


def _check(filters: Filters) -> None:
    """InvalidArgument for a filter that is not known, or a value that it cannot have."""
    matching.check(filters, KNOWN)
    for name, allowed in VALUES.items():
        for value in filters.get(name, ()):
            if value not in allowed:
                raise InvalidArgument(f"invalid filter '{name}={value}'", remedy=f"There are: {', '.join(allowed)}.")
    for code in filters.get("exited", ()):
        if not re.fullmatch(r"[+-]?\d+", code):
            raise InvalidArgument(f"invalid filter 'exited={code}'", "an exit code is a number")
    for name in ("publish", "expose"):
        for ports in filters.get(name, ()):
            _port_range(ports)


async def _ancestors(core: Core, names: Sequence[str]) -> set[str] | None:
    if not names:
        return None
    found = set()
    for name in names:
        try:
            found.add((await core.images.get(name)).id)
        except HooperError:
            continue  # an image that is not there has no containers
    return found


def _bounds(core: Core, filters: Filters) -> tuple[str, str]:
    """Creation times between which containers are wanted."""
    try:
        before = min((core.store.get(name).created for name in filters.get("before", ())), default="~")
        since = max((core.store.get(name).created for name in filters.get("since", ())), default="")
    except NotFound as error:
        raise InvalidArgument(error.what, remedy="before and since take a container's name or id.") from error
    return since, before


def _matches(container: Container, filters: Filters, images: set[str] | None, bounds: tuple[str, str]) -> bool:
    def any_of(key: str, test: str | Sequence[str]) -> bool:
        values = filters.get(key)
        return not values or any(value in test for value in values)

    state = container.state
    return (
        bounds[0] < container.created < bounds[1]
        and (images is None or container.image_id in images)
        and any_of("status", [state.status])
        and ("exited" not in filters or (state.status == "exited" and state.exit_code in map(int, filters["exited"])))
        and ("id" not in filters or any(container.id.startswith(prefix) for prefix in filters["id"]))
        and ("name" not in filters or any(_name_matches(container.name, pattern) for pattern in filters["name"]))
        and matching.labels_match(container.config.labels, filters.get("label", ()))
        and ("network" not in filters or _on_network(container, filters["network"]))
        and ("volume" not in filters or _has_volume(container, filters["volume"]))
        and ("publish" not in filters or _has_port(filters["publish"], _published(container)))
        and ("expose" not in filters or _has_port(filters["expose"], container.config.exposed_ports or {}))
        and any_of("health", [state.health.status if state.health else "none"])
        and any_of("is-task", ["false", "0"])
    )


def _name_matches(name: str, pattern: str) -> bool:
    try:
        return bool(re.search(pattern, f"/{name}") or re.search(pattern, name))
    except re.error:
        return pattern in name


def _on_network(container: Container, wanted: Sequence[str]) -> bool:
    ids = [settings.network_id for settings in container.networks.values() if settings.network_id]
    return any(name in container.networks or any(network_id.startswith(name) for network_id in ids) for name in wanted)


def _has_volume(container: Container, wanted: Sequence[str]) -> bool:
    places = {place for point in container.mounts for place in (point.name, point.source, point.destination) if place}
    return any(name in places for name in wanted)


def _published(container: Container) -> list[str]:
    """The host's ports, as dockerd has it: "8080/tcp"."""
    return [
        f"{binding.host_port}/{port.partition('/')[2] or 'tcp'}"
        for port, bindings in container.ports.items()
        for binding in bindings or ()
    ]


def _port_range(text: str) -> tuple[range, str]:
    span, _, protocol = text.partition("/")
    first, _, last = span.partition("-")
    return range(parse_port(first)[0], parse_port(last or first)[0] + 1), protocol or "tcp"


def _has_port(wanted: Sequence[str], ports: Iterable[str]) -> bool:
    have = {parse_port(port) for port in ports}
    ranges = [_port_range(text) for text in wanted]
    return any(number in numbers and protocol == wanted for number, protocol in have for numbers, wanted in ranges)


def moment(text: str) -> float:
    """A time as filters and --since have it: seconds since the epoch, RFC 3339, or a duration ago ("10m")."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"(\d+[smhd])+", text):
        ago = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))
        return time.time() - ago
    try:
        return seconds(text)
    except ValueError:
        raise InvalidArgument(f'"{text}" is not a time', remedy='Write "10m", a unix time or RFC 3339.') from None
