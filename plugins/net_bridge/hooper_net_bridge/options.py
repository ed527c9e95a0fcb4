"""The options of a network that this driver knows; others are ignored, as dockerd does."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hooper.api.errors import InvalidArgument
from hooper.api.network import Network
from hooper_net_bridge.config import BridgeConfig

_BRIDGE, _DRIVER = "com.docker.network.bridge.", "com.docker.network.driver."
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


class Mode(StrEnum):
    """How the outside and a network come together, for one IP version. Docker's names."""

    NAT = "nat"
    """Packets leave with the host's address; published ports are on the host's addresses."""
    UNPROTECTED = "nat-unprotected"
    """As nat; besides, whoever has a route reaches all ports of containers."""
    ROUTED = "routed"
    """No translation: whoever has a route reaches published ports on the containers' own addresses."""
    ISOLATED = "isolated"
    """Of an internal network: the host has no address in it either."""

    @property
    def translates(self) -> bool:
        return self in (Mode.NAT, Mode.UNPROTECTED)


@dataclass(frozen=True)
class Options:
    bridge_name: str = ""
    inter_container: bool = True
    """Containers of the network reach each other."""
    masquerade: bool = True
    host_address: str = ""
    """Where ports are published that name no address."""
    mtu: int = 0
    modes: Mapping[int, Mode] = field(default_factory=lambda: {4: Mode.NAT, 6: Mode.NAT})
    """By IP version."""
    sources: Mapping[int, str] = field(default_factory=lambda: {4: "", 6: ""})
    """By IP version: the host's address that packets leave with, where it is not the outgoing interface's."""
    inhibit_ipv4: bool = False
    """The bridge gets no IPv4 address."""
    trusted: tuple[str, ...] = ()
    """Interfaces of the host behind which everybody reaches the containers directly."""

    def has_address(self, version: int) -> bool:
        """The bridge has one, in networks of that version."""
        return self.modes[version] is not Mode.ISOLATED and not (version == 4 and self.inhibit_ipv4)


def parse(network: Network, config: BridgeConfig | None = None) -> Options:
    """InvalidArgument for a value that is none. `config` has the defaults."""
    config = config or BridgeConfig()
    own = config if network.name == "bridge" else BridgeConfig()
    given = _Given(network)
    return Options(
        bridge_name=given.interface(f"{_BRIDGE}name"),
        inter_container=given.boolean(f"{_BRIDGE}enable_icc", own.icc),
        masquerade=given.boolean(f"{_BRIDGE}enable_ip_masquerade", own.masquerade),
        host_address=given.address(f"{_BRIDGE}host_binding_ipv4", own.host_address),
        mtu=given.size(f"{_DRIVER}mtu", config.mtu),
        modes={version: given.mode(f"{_BRIDGE}gateway_mode_ipv{version}") for version in (4, 6)},
        sources={version: given.address(f"com.docker.network.host_ipv{version}") for version in (4, 6)},
        inhibit_ipv4=given.boolean(f"{_BRIDGE}inhibit_ipv4", False),
        trusted=tuple(filter(None, network.options.get(f"{_BRIDGE}trusted_host_interfaces", "").split(":"))),
    )


class _Given:
    def __init__(self, network: Network) -> None:
        self._network = network

    def _text(self, option: str) -> str:
        return self._network.options.get(option, "")

    def _invalid(self, option: str, wanted: str) -> InvalidArgument:
        return InvalidArgument(
            f"failed to parse {option} value: {self._text(option)}",
            f"network {self._network.name}: it is not {wanted}",
            "Correct the option or leave it out.",
        )

    def interface(self, option: str) -> str:
        name = self._text(option)
        if len(name) > 15 or "/" in name or name.split() != ([name] if name else []):
            raise self._invalid(option, "an interface's name of at most 15 characters")
        return name

    def boolean(self, option: str, default: bool) -> bool:
        value = self._text(option).lower()
        if value not in ("", *_TRUE, *_FALSE):
            raise self._invalid(option, "true or false")
        return value in _TRUE if value else default

    def address(self, option: str, default: str = "") -> str:
        value = self._text(option) or default
        try:
            if value and ipaddress.ip_address(value).is_unspecified:
                return ""
        except ValueError as error:
            raise self._invalid(option, "an IP address") from error
        return value

    def size(self, option: str, default: int) -> int:
        value = self._text(option)
        if value and not (value.isdigit() and 68 <= int(value) <= 65535):
            raise self._invalid(option, "a number of bytes from 68 to 65535")
        return int(value) if value else default

    def mode(self, option: str) -> Mode:
        try:
            mode = Mode(self._text(option) or Mode.NAT)
        except ValueError as error:
            raise self._invalid(option, f"one of {', '.join(Mode)}") from error
        if mode is Mode.ISOLATED and not self._network.internal:
            raise InvalidArgument(
                "gateway mode 'isolated' can only be used for an internal network", remedy="Add --internal."
            )
        return mode
