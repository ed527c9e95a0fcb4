"""Networks and endpoints in Docker's words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

import msgspec

from hooper.api.engine import Filters
from hooper.api.errors import InvalidArgument
from hooper.api.model import EndpointSettings
from hooper.api.network import Endpoint, Network
from hooper.engine import filters as matching

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\Z")


def check_name(name: str) -> None:
    if not _NAME.match(name):
        raise InvalidArgument(
            f"invalid network name ({name})",
            "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            'For example "backend".',
        )


def check_mac(mac: str) -> str:
    """In lower case with colons; "" stays."""
    plain = mac.lower().replace("-", ":")
    if plain and (not _MAC.match(plain) or int(plain[:2], 16) & 1):
        raise InvalidArgument(f"invalid MAC address: {mac}", remedy='Write a unicast one, such as "02:42:ac:11:00:02".')
    return plain


def settings_of(endpoint: Endpoint, asked: EndpointSettings | None = None) -> EndpointSettings:
    """What was asked for, completed by what the endpoint has."""
    address, _, length = endpoint.address.partition("/")
    address6, _, length6 = endpoint.address6.partition("/")
    return msgspec.structs.replace(
        asked or EndpointSettings(),
        network_id=endpoint.network_id,
        endpoint_id=endpoint.id,
        gateway=endpoint.gateway,
        ip_address=address,
        ip_prefix_len=int(length or 0),
        ipv6_gateway=endpoint.gateway6,
        global_ipv6_address=address6,
        global_ipv6_prefix_len=int(length6 or 0),
        mac_address=endpoint.mac,
        dns_names=names_of(endpoint),
    )


def names_of(endpoint: Endpoint) -> list[str]:
    """How others of the network may call it: name, aliases, short id."""
    return list(dict.fromkeys([endpoint.container_name, *endpoint.aliases, endpoint.container_id[:12]]))


def matches(network: Network, filters: Filters, *, predefined: bool, used: bool) -> bool:
    """The network passes all of `filters`. InvalidArgument for a value that a filter does not take."""
    kinds = filters.get("type", ())
    for kind in kinds:
        if kind not in ("custom", "builtin"):
            raise InvalidArgument(f"invalid filter: 'type'='{kind}'", remedy="Types are custom and builtin.")
    return (
        _any(filters, "name", lambda value: value in network.name)
        and _any(filters, "id", network.id.startswith)
        and _any(filters, "driver", network.driver.__eq__)
        and _any(filters, "scope", "local".__eq__)
        and (not kinds or ("builtin" if predefined else "custom") in kinds)
        and matching.labels_match(network.labels, filters.get("label", ()))
        and ("dangling" not in filters or matching.is_true(filters["dangling"]) == (not used and not predefined))
    )


def _any(filters: Filters, name: str, passes: Callable[[str], bool]) -> bool:
    return name not in filters or any(passes(value) for value in filters[name])


def active(endpoints: Sequence[Endpoint]) -> str:
    """For the message of a network that cannot be removed."""
    return ", ".join(f'name:"{endpoint.container_name}" id:"{endpoint.id[:12]}"' for endpoint in endpoints)


def until(filters: Filters) -> float:
    """The filter "until" as a time: a Unix time, or a duration before now such as 10m or 1h30m."""
    values = filters.get("until", ())
    if not values:
        return float("inf")
    text = values[0]
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    if not re.fullmatch(r"(\d+(\.\d+)?[hms])+", text):
        raise InvalidArgument(
            f"invalid filter: 'until'='{text}'", remedy="Write a duration such as 24h, or a Unix time."
        )
    return time.time() - sum(float(part[:-1]) * units[part[-1]] for part in re.findall(r"[\d.]+[hms]", text))
