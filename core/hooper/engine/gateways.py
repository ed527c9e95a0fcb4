"""Which of a container's networks has its default routes, and with them its published ports.

As Docker has it: the one with the highest gateway priority; among equals one with both IP versions comes
before one with a single, then the name decides. Answers to a published port leave by the default route, so the
ports are where that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hooper.api.network import Endpoint, Network

Place = tuple[Network, Endpoint]


def elect(places: Sequence[Place]) -> list[Endpoint]:
    """Gives the default routes and the ports of a container to the right ones of its endpoints.

    Returns those that changed.
    """
    before = [msgspec.structs.replace(endpoint) for _, endpoint in places]
    ranked = sorted((place for place in places if not place[0].internal), key=_rank)
    first4 = next((endpoint for _, endpoint in ranked if endpoint.address), None)
    first6 = next((endpoint for _, endpoint in ranked if endpoint.address6), None)
    for _, endpoint in places:
        endpoint.default_route, endpoint.default_route6 = endpoint is first4, endpoint is first6
    if outward := first4 or first6:
        _move_ports([endpoint for _, endpoint in places], outward)
    return [endpoint for (_, endpoint), old in zip(places, before, strict=True) if endpoint != old]


def _rank(place: Place) -> tuple[int, bool, str]:
    network, endpoint = place
    return -endpoint.gw_priority, not (endpoint.address and endpoint.address6), network.name


def _move_ports(endpoints: Sequence[Endpoint], to: Endpoint) -> None:
    holder = next((endpoint for endpoint in endpoints if endpoint.ports), to)
    if holder is not to:
        to.ports, to.held = holder.ports, holder.held
        holder.ports, holder.held = [], False
