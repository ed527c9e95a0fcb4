"""`hooper network`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.each import for_each
from hooper.cli.errors import BadFlag
from hooper.cli.flags import flag, number, text, values
from hooper.cli.listing import list_flags, show_list
from hooper.cli.session import Session
from hooper.cli.values import filters as parse_filters
from hooper.cli.values import pairs

_HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


@command("ls", "")
@list_flags
@click.pass_obj
def ls(session: Session, /, quiet: bool, no_trunc: bool, format: str, filters: tuple[str, ...]) -> None:
    """List networks."""
    found = session.client.get("/networks", {"filters": parse_filters(filters)})
    rows = [_row(network, full=no_trunc) for network in sorted(found, key=lambda one: one["Name"])]
    show_list(rows, _HEADERS, ("ID", "Name", "Driver", "Scope"), format=format, quiet=quiet, usual="networksFormat")


def _row(network: Mapping[str, Any], *, full: bool) -> dict[str, Any]:
    labels = network.get("Labels") or {}
    return {
        "ID": network["Id"] if full else humanise.short_id(network["Id"]),
        "Name": network["Name"],
        "Driver": network["Driver"],
        "Scope": network["Scope"],
        "IPv4": str(network.get("EnableIPv4", False)).lower(),
        "IPv6": str(network.get("EnableIPv6", False)).lower(),
        "Internal": str(network["Internal"]).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "CreatedAt": humanise.go_time(network["Created"]),
        "Label": lambda name: labels.get(name, ""),
    }


@command("create", "NETWORK")
@flag("--attachable", help="Enable manual container attachment")
@text("--config-from", help="The network from which to copy the configuration")
@flag("--config-only", help="Create a configuration only network")
@flag("--ingress", help="Create swarm routing-mesh network")
@text("--scope", help="Control the network's scope")
@values("--aux-address", help="Auxiliary IPv4 or IPv6 addresses used by Network driver", metavar="map")
@click.option(
    "-d", "--driver", default="", metavar="string", help="Driver to manage the Network (default: the daemon's)"
)
@values("--gateway", help="IPv4 or IPv6 Gateway for the master subnet")
@flag("--internal", help="Restrict external access to the network")
@values("--ip-range", help="Allocate container ip from a sub-range")
@click.option("--ipam-driver", default="default", metavar="string", help="IP Address Management Driver")
@values("--ipam-opt", help="Set IPAM driver specific options", metavar="map")
@click.option("--ipv4/--no-ipv4", default=True, help="Enable or disable IPv4 address assignment")
@flag("--ipv6", help="Enable or disable IPv6 address assignment")
@values("--label", help="Set metadata on a network")
@values("-o", "--opt", help="Set driver specific options", metavar="map")
@values("--subnet", help="Subnet in CIDR format that represents a network segment")
@click.argument("name")
@click.pass_obj
def create(session: Session, /, name: str, **options: Any) -> None:
    """Create a network."""
    body = {
        "Name": name,
        "CheckDuplicate": True,
        "Driver": options["driver"],
        "Internal": options["internal"],
        "Attachable": options["attachable"],
        "EnableIPv4": options["ipv4"],
        "EnableIPv6": options["ipv6"],
        "Options": pairs("--opt", options["opt"]),
        "Labels": pairs("--label", options["label"]),
        "IPAM": {
            "Driver": options["ipam_driver"],
            "Options": pairs("--ipam-opt", options["ipam_opt"]),
            "Config": ipam_config(options),
        },
    }
    more = {
        "Scope": options["scope"],
        "Ingress": options["ingress"],
        "ConfigOnly": options["config_only"],
        "ConfigFrom": {"Network": options["config_from"]} if options["config_from"] else None,
    }
    body |= {key: value for key, value in more.items() if value}
    print(session.client.post("/networks/create", body)["Id"])


def ipam_config(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """IPAM.Config: every gateway, range and auxiliary address with the subnet that it is in; BadFlag."""
    import ipaddress

    configs = {subnet: {"Subnet": subnet} for subnet in options["subnet"]}

    def config_of(flag_name: str, address: str) -> dict[str, Any]:
        try:
            first = ipaddress.ip_network(address, strict=False).network_address
            for subnet, config in configs.items():
                if first in ipaddress.ip_network(subnet, strict=False):
                    return config
        except ValueError as error:
            raise BadFlag(flag_name, address, str(error), "--subnet 10.5.0.0/16 --gateway 10.5.0.1") from error
        raise BadFlag(flag_name, address, "it is in none of the subnets", "--subnet 10.5.0.0/16 --gateway 10.5.0.1")

    for subnet in configs:
        config_of("--subnet", subnet)
    for gateway in options["gateway"]:
        config_of("--gateway", gateway)["Gateway"] = gateway
    for part in options["ip_range"]:
        config_of("--ip-range", part)["IPRange"] = part
    for name, address in pairs("--aux-address", options["aux_address"]).items():
        config_of("--aux-address", address).setdefault("AuxiliaryAddresses", {})[name] = address
    return list(configs.values())


@command("rm", "NETWORK [NETWORK...]")
@flag("-f", "--force", help="Do not error if the network does not exist")
@click.argument("networks", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, /, networks: tuple[str, ...], force: bool) -> int:
    """Remove one or more networks."""
    return remove_each(session, "/networks/{}", networks, force=force)


def remove_each(session: Session, path: str, names: tuple[str, ...], *, force: bool) -> int:
    """DELETE of each; with `force`, one that is not there is no error. The exit code."""
    from hooper.client.errors import ApiError

    def remove(name: str) -> None:
        try:
            session.client.delete(path.format(name), {"force": force or None})
        except ApiError as error:
            if not (force and error.status == 404):
                raise

    return for_each(names, remove)


@command("connect", "NETWORK CONTAINER")
@values("--alias", help="Add network-scoped alias for the container")
@values("--driver-opt", help="driver options for the network")
@text("--ip", help='IPv4 address (e.g., "172.30.100.104")')
@text("--ip6", help='IPv6 address (e.g., "2001:db8::33")')
@number("--gw-priority", help="Highest gw-priority provides the default gateway; accepts positive and negative values")
@values("--link", help="Add link to another container")
@values("--link-local-ip", help="Add a link-local address for the container")
@click.argument("network")
@click.argument("container")
@click.pass_obj
def connect(session: Session, /, network: str, container: str, **options: Any) -> None:
    """Connect a container to a network."""
    local = list(options["link_local_ip"])
    addresses = {"IPv4Address": options["ip"], "IPv6Address": options["ip6"], "LinkLocalIPs": local}
    endpoint = {
        "Aliases": list(options["alias"]),
        "Links": list(options["link"]),
        "DriverOpts": pairs("--driver-opt", options["driver_opt"]),
        "GwPriority": options["gw_priority"],
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
    }
    endpoint = {key: value for key, value in endpoint.items() if value}
    session.client.post(f"/networks/{network}/connect", {"Container": container, "EndpointConfig": endpoint})


@command("disconnect", "NETWORK CONTAINER")
@flag("-f", "--force", help="Force the container to disconnect from a network")
@click.argument("network")
@click.argument("container")
@click.pass_obj
def disconnect(session: Session, network: str, container: str, force: bool) -> None:
    """Disconnect a container from a network."""
    session.client.post(f"/networks/{network}/disconnect", {"Container": container, "Force": force})
