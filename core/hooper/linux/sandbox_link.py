"""The inside of a sandbox: an interface with its addresses, sysctls and routes.

What every driver does there after it has made the interface. All of it is one batch of rtnetlink messages on a
socket that was opened in the namespace.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hooper.linux import netlink_route as route
from hooper.linux.netlink import NETLINK_ROUTE, Message, NetlinkSocket, entered

if TYPE_CHECKING:
    from hooper.api.network import Endpoint

_LOOPBACK = 1
_SYSCTL = Path("/proc/sys")


def configure(netns: int, endpoint: Endpoint) -> None:
    """Gives `endpoint.interface`, which is in the namespace, all that the endpoint says, and brings it up.

    Raises OSError.
    """
    sysctls = endpoint.sysctls
    if endpoint.address6:
        # The sandbox of a container that had no IPv6 so far has it switched off.
        sysctls = {f"net/ipv6/conf/{endpoint.interface}/disable_ipv6": "0"} | sysctls
    if sysctls:
        _set_sysctls(netns, sysctls)
    with NetlinkSocket(NETLINK_ROUTE, netns) as inside:
        index = _index(inside, endpoint.interface)
        addresses = [address for address in (endpoint.address, endpoint.address6) if address]
        messages = [route.set_up(_LOOPBACK), *(route.add_address(index, address) for address in addresses)]
        messages += [route.add_address(index, address, on_link=True) for address in endpoint.link_local]
        inside.request([*messages, route.set_up(index), *_routes(index, endpoint)])


def set_default_route(netns: int, endpoint: Endpoint) -> None:
    """The namespace's default routes go where the endpoint says, in place of those there are. Raises OSError."""
    with NetlinkSocket(NETLINK_ROUTE, netns) as inside:
        inside.request(_routes(_index(inside, endpoint.interface), endpoint))


def remove(netns: int, interface: str) -> None:
    """Deletes an interface of the namespace; harmless if there is none. Raises OSError."""
    with NetlinkSocket(NETLINK_ROUTE, netns) as inside:
        try:
            inside.request([route.delete_link(interface)])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise


def _index(inside: NetlinkSocket, interface: str) -> int:
    link = route.find_link(inside, interface)
    if link is None:
        raise OSError(errno.ENODEV, f"{interface} is gone")
    return link.index


def _routes(index: int, endpoint: Endpoint) -> list[Message]:
    messages = []
    for version, wanted, address, gateway in (
        (4, endpoint.default_route, endpoint.address, endpoint.gateway),
        (6, endpoint.default_route6, endpoint.address6, endpoint.gateway6),
    ):
        if wanted and gateway:
            messages.append(route.add_default_route(index, gateway))
        elif wanted and address:
            messages.append(route.add_default_link(index, version))
    return messages


def _set_sysctls(netns: int, sysctls: Mapping[str, str]) -> None:
    with entered(netns):
        for name, value in sysctls.items():
            try:
                (_SYSCTL / name).write_text(value)
            except OSError as error:
                raise OSError(error.errno, f"sysctl {name}={value}: {error.strerror}") from error
