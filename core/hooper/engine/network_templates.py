"""Networks that are only templates (`--config-only`), and those that are made from one (`--config-from`)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hooper.api.errors import Forbidden, InvalidArgument, NotFound
from hooper.api.network import Network

_TEMPLATE_DRIVER = "null"
"""What clients see as the driver of a template."""


def applied(network: Network, template: Network | None) -> Network:
    """The network that is to be made, completed from its template; one that has none as it is.

    NotFound, Forbidden or InvalidArgument if the two do not go together.
    """
    if network.config_only:
        if network.config_from:
            raise InvalidArgument(
                "a configuration network cannot be made from another", remedy="Leave one of them out."
            )
        return msgspec.structs.replace(network, driver=_TEMPLATE_DRIVER)
    if not network.config_from:
        return network
    if template is None or not template.config_only:
        raise NotFound(
            f'configuration network "{network.config_from}" does not exist',
            f"{template.name} is a network to connect to" if template else "",
            "Make it first: hooper network create --config-only.",
        )
    if network.pools or network.options or network.ipam_driver not in ("", "default"):
        raise InvalidArgument(
            "user-specified configurations are not supported if the network depends on a configuration network",
            f"the network has those of {template.name}",
            "Leave subnets and options out.",
        )
    return msgspec.structs.replace(
        network,
        pools=template.pools,
        options=template.options,
        labels=network.labels or template.labels,
        ipv4=template.ipv4,
        ipv6=template.ipv6,
        internal=network.internal or template.internal,
        ipam_driver=template.ipam_driver,
        ipam_options=template.ipam_options,
    )


def check_unused(template: Network, networks: Iterable[Network]) -> None:
    """Forbidden if one of the networks was made from it."""
    users = [network.name for network in networks if network.config_from == template.name]
    if template.config_only and users:
        raise Forbidden(
            f'configuration network "{template.name}" is in use', f"by {', '.join(users)}", "Remove those first."
        )


def check_connectable(network: Network) -> None:
    """Forbidden for a template."""
    if network.config_only:
        raise Forbidden(
            "cannot create endpoint on configuration-only network",
            f"{network.name} is one",
            f"Make a network from it: hooper network create --config-from {network.name} NAME",
        )
