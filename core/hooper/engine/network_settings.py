"""Networks and endpoints in Docker's words."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Collection, Sequence

import msgspec

from hooper.api.engine import Filters
from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.model import EndpointSettings
from hooper.api.network import Endpoint, Network, Pool
from hooper.engine import filters as matching

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\Z")


IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
PREFIX = "com.docker.network.container_iface_prefix"
_INTERFACE = re.compile(r"[^/\s]{1,15}\Z")
_SYSCTL = re.compile(r"(net\.[a-z0-9]+\.[a-z0-9_]+)\.(?i:IFNAME)\.([a-z0-9_]+)=(\S+)\Z")


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


def refuse_mac(network: Network, mac: str) -> None:
    """InvalidArgument for a MAC address in a network whose endpoints have none of their own."""
    if mac:
        raise InvalidArgument(
            f"{network.driver} interfaces do not support custom mac address assignment",
            f"{mac} was asked for in {network.name}",
            "Leave the address out.",
        )


def link_local(addresses: Sequence[str]) -> list[str]:
    """Addresses of an endpoint that are valid on its link alone, with the lengths of their prefixes."""
    found = []
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError as error:
            raise InvalidArgument(f"invalid link-local IP address: {text}", str(error)) from error
        if not address.is_link_local:
            raise InvalidArgument(
                f"invalid link-local IP address: {text}", remedy="Choose one of 169.254.0.0/16 or of fe80::/64."
            )
        found.append(f"{address}/{16 if address.version == 4 else 64}")
    return found


def apply_options(network: Network, endpoint: Endpoint, settings: EndpointSettings, taken: Collection[str]) -> None:
    """The interface's name (unless the endpoint has one), its sysctls, and the driver's own options.

    `taken` are the names of the container's other interfaces.
    """
    given = settings.driver_opts or {}
    if not endpoint.interface:
        endpoint.interface = _interface(network, given.get(IFNAME, ""), taken)
    if given:
        endpoint.options = {key: value for key, value in given.items() if key not in (IFNAME, SYSCTLS)}
        endpoint.sysctls = _sysctls(given.get(SYSCTLS, ""), endpoint.interface)


def _interface(network: Network, asked: str, taken: Collection[str]) -> str:
    if not asked:
        prefix = network.options.get(PREFIX, "") or "eth"
        return next(name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken)
    if not _INTERFACE.match(asked) or asked in (".", "..", "lo"):
        raise InvalidArgument(
            f'invalid interface name "{asked}" ({IFNAME})', remedy="Up to 15 characters without / and blanks: wan0."
        )
    if asked in taken:
        raise Conflict(f'the interface name "{asked}" is taken', "another network of the container has it")
    return asked


def _sysctls(text: str, interface: str) -> dict[str, str]:
    """ "net.ipv4.conf.IFNAME.log_martians=1,…" as {"net/ipv4/conf/eth0/log_martians": "1"}."""
    found = {}
    for part in text.split(",") if text else ():
        match = _SYSCTL.match(part)
        if not match:
            raise InvalidArgument(
                f'invalid endpoint sysctl "{part}" ({SYSCTLS})',
                remedy="Write net.X.Y.IFNAME.Z=VALUE, with the word IFNAME: net.ipv4.conf.IFNAME.log_martians=1",
            )
        found[f"{match[1].replace('.', '/')}/{interface}/{match[2]}"] = match[3]
    return found


def usable_pools(network: Network) -> tuple[list[Pool], list[str]]:
    """The pools asked for that are of an IP version that the network has, and warnings about the others.

    InvalidArgument for a network without any version; NotFound for an address manager that is not there.
    """
    if network.ipam_driver not in ("", "default", "null"):
        raise NotFound(
            f'plugin "{network.ipam_driver}" not found', "there is no such IPAM driver", "There are default and null."
        )
    if not (network.ipv4 or network.ipv6):
        raise InvalidArgument("IPv4 or IPv6 must be enabled", remedy="Leave --ipv4=false out, or add --ipv6.")
    kept, warnings = [], []
    for pool in network.pools:
        version = 6 if ":" in (pool.subnet or pool.gateway) else 4
        if network.ipv6 if version == 6 else network.ipv4:
            kept.append(pool)
        else:
            warnings.append(f"The subnet {pool.subnet} is ignored: the network has no IPv{version}.")
    return kept, warnings


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
        _any(filters, "name", lambda value: _found(value, network.name))
        and _any(filters, "id", lambda value: _found(value, network.id))
        and _any(filters, "driver", network.driver.__eq__)
        and _any(filters, "scope", "local".__eq__)
        and (not kinds or ("builtin" if predefined else "custom") in kinds)
        and matching.labels_match(network.labels, filters.get("label", ()))
        and ("dangling" not in filters or _boolean("dangling", filters) == (not used and not predefined))
    )


def _found(pattern: str, text: str) -> bool:
    """The pattern, a regular expression or else plain, is somewhere in the text."""
    try:
        return bool(re.search(pattern, text))
    except re.error:
        return pattern in text


def _boolean(name: str, filters: Filters) -> bool:
    values = {value.lower() for value in filters[name]}
    for wanted in (("1", "true", "t"), ("0", "false", "f")):
        if values and values <= {*wanted}:
            return wanted[0] == "1"
    raise InvalidArgument(
        f'invalid value for filter \'{name}\', must be "true" (or "1"), or "false" (or "0")',
        f"invalid filter '{name}={','.join(filters[name])}'",
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
