"""Options of networks and endpoints in Docker's words."""

from __future__ import annotations

from typing import Any

import pytest

from hooper.api.errors import Conflict, Forbidden, InvalidArgument, NotFound
from hooper.api.model import EndpointSettings
from hooper.api.network import Endpoint, Network, Pool
from hooper.engine import network_settings, network_templates
from hooper.engine.ports import parse_exposed
from hooper_net_bridge.config import BridgeConfig, default_pools
from hooper_net_bridge.options import Mode, parse
from hooper_net_macvlan import options as parent_options

BRIDGE = "com.docker.network.bridge."


def network(**fields: Any) -> Network:
    return Network(**({"id": "1" * 64, "name": "net", "driver": "bridge", "created": 0.0} | fields))


def applied(network: Network, taken: set[str], **options: str) -> Endpoint:
    endpoint = Endpoint(id="e", network_id="n", container_id="c", container_name="c", interface="")
    given = {
        f"com.docker.network.endpoint.{key}" if key in ("ifname", "sysctls") else key: v for key, v in options.items()
    }
    network_settings.apply_options(network, endpoint, EndpointSettings(driver_opts=given), taken)
    return endpoint


def test_the_names_of_interfaces() -> None:
    assert applied(network(), set()).interface == "eth0"
    assert applied(network(), {"eth0", "eth2"}).interface == "eth1"
    prefixed = network(options={"com.docker.network.container_iface_prefix": "lan"})
    assert applied(prefixed, {"eth0"}).interface == "lan0"
    assert applied(prefixed, {"eth0"}, ifname="wan.7").interface == "wan.7"
    with pytest.raises(Conflict, match="wan0"):
        applied(network(), {"wan0"}, ifname="wan0")
    for wrong in ("a" * 16, "a/b", "a b", "lo", ".."):
        with pytest.raises(InvalidArgument, match="invalid interface name"):
            applied(network(), set(), ifname=wrong)


def test_sysctls_of_an_endpoint() -> None:
    text = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2"
    endpoint = applied(network(), set(), sysctls=text, ifname="w.1", other="x")
    assert endpoint.sysctls == {"net/ipv4/conf/w.1/log_martians": "1", "net/ipv6/conf/w.1/accept_ra": "2"}
    assert endpoint.options == {"other": "x"}
    for wrong in (
        "net.ipv4.ip_forward=1",
        "kernel.IFNAME.x=1",
        "net.ipv4.conf.eth0.x=1",
        "net.ipv4.conf.IFNAME.x",
        "a",
    ):
        with pytest.raises(InvalidArgument, match="invalid endpoint sysctl"):
            applied(network(), set(), sysctls=wrong)


def test_link_local_addresses() -> None:
    assert network_settings.link_local(["169.254.1.1", "fe80::7"]) == ["169.254.1.1/16", "fe80::7/64"]
    for wrong in ("10.0.0.1", "x", "fd00::1"):
        with pytest.raises(InvalidArgument, match="link-local"):
            network_settings.link_local([wrong])


def test_pools_of_a_version_that_a_network_lacks_are_told() -> None:
    four, six = Pool("10.0.0.0/24"), Pool("fd00::/64")
    assert network_settings.usable_pools(network(pools=[four, six], ipv6=True)) == ([four, six], [])
    kept, warnings = network_settings.usable_pools(network(pools=[four, six]))
    assert (kept, len(warnings)) == ([four], 1)
    assert "fd00::/64" in warnings[0]
    with pytest.raises(InvalidArgument, match="IPv4 or IPv6 must be enabled"):
        network_settings.usable_pools(network(ipv4=False))
    with pytest.raises(NotFound, match='plugin "dhcp" not found'):
        network_settings.usable_pools(network(ipam_driver="dhcp"))


def test_templates() -> None:
    template = network(name="cfg", config_only=True, pools=[Pool("10.0.0.0/24")], options={"parent": "eth0"}, ipv6=True)
    made = network_templates.applied(network(driver="macvlan", config_from="cfg"), template)
    assert (made.pools, made.options, made.ipv6, made.driver) == (template.pools, template.options, True, "macvlan")
    assert network_templates.applied(network(driver="", config_only=True), None).driver == "null"
    with pytest.raises(NotFound, match='configuration network "cfg" does not exist'):
        network_templates.applied(network(config_from="cfg"), None)
    with pytest.raises(NotFound, match="net is a network to connect to"):
        network_templates.applied(network(config_from="net"), network())
    with pytest.raises(InvalidArgument, match="depends on a configuration network"):
        network_templates.applied(network(config_from="cfg", options={"a": "b"}), template)
    with pytest.raises(Forbidden, match="in use"):
        network_templates.check_unused(template, [made])
    with pytest.raises(Forbidden, match="configuration-only network"):
        network_templates.check_connectable(template)
    network_templates.check_unused(template, [network()])


def test_the_bridges_options() -> None:
    given = parse(
        network(
            options={
                f"{BRIDGE}gateway_mode_ipv4": "routed",
                f"{BRIDGE}inhibit_ipv4": "T",
                f"{BRIDGE}enable_icc": "False",
                f"{BRIDGE}trusted_host_interfaces": "eth0:eth1",
                "com.docker.network.host_ipv4": "192.0.2.1",
            }
        )
    )
    assert (given.modes, given.inhibit_ipv4, given.inter_container) == ({4: Mode.ROUTED, 6: Mode.NAT}, True, False)
    assert (given.trusted, given.sources) == (("eth0", "eth1"), {4: "192.0.2.1", 6: ""})
    assert (given.has_address(4), given.has_address(6)) == (False, True)
    with pytest.raises(InvalidArgument, match="'isolated' can only be used for an internal network"):
        parse(network(options={f"{BRIDGE}gateway_mode_ipv6": "isolated"}))
    for option, value in (("gateway_mode_ipv4", "odd"), ("inhibit_ipv4", "perhaps"), ("name", "a b")):
        with pytest.raises(InvalidArgument, match=f"failed to parse {BRIDGE}{option} value: {value}"):
            parse(network(options={BRIDGE + option: value}))


def test_configuration_is_the_default_of_the_network_bridge_alone() -> None:
    config = BridgeConfig(icc=False, masquerade=False, host_address="127.0.0.1", mtu=1400)
    own, other = parse(network(name="bridge"), config), parse(network(), config)
    assert (own.inter_container, own.masquerade, own.host_address, own.mtu) == (False, False, "127.0.0.1", 1400)
    assert (other.inter_container, other.masquerade, other.host_address, other.mtu) == (True, True, "", 1400)


@pytest.mark.parametrize(
    ("config", "pools"),
    [
        (BridgeConfig(), []),
        (BridgeConfig(subnet="10.9.0.0/24"), [Pool("10.9.0.0/24")]),
        (BridgeConfig(bip="10.9.0.7/24"), [Pool("10.9.0.0/24", "10.9.0.7")]),
        (
            BridgeConfig(bip="10.9.0.7/24", fixed_cidr="10.9.0.128/25"),
            [Pool("10.9.0.0/24", "10.9.0.7", "10.9.0.128/25")],
        ),
        (BridgeConfig(ipv6=True, fixed_cidr_v6="fd00:9::/64"), [Pool("fd00:9::/64")]),
        (BridgeConfig(fixed_cidr_v6="fd00:9::/64"), []),
    ],
)
def test_configured_pools(config: BridgeConfig, pools: list[Pool]) -> None:
    assert default_pools(config) == pools


def test_configured_pools_that_are_wrong() -> None:
    with pytest.raises(InvalidArgument, match="both bip and subnet"):
        default_pools(BridgeConfig(bip="10.9.0.7/24", subnet="10.9.0.0/24"))
    with pytest.raises(InvalidArgument, match="bip"):
        default_pools(BridgeConfig(bip="10.9"))


def test_parents_of_macvlans() -> None:
    assert parent_options.vlan("eth0.10") == ("eth0", 10)
    assert parent_options.vlan("eth0.1.4094") == ("eth0.1", 4094)
    for wrong in ("eth0", "eth0.", ".5", "eth0.x"):
        with pytest.raises(InvalidArgument, match=r"example formatting is eth0\.10"):
            parent_options.vlan(wrong)
    for wrong in ("eth0.0", "eth0.4095"):
        with pytest.raises(InvalidArgument, match="between 1-4094"):
            parent_options.vlan(wrong)
    with pytest.raises(InvalidArgument, match="loopback interface is not a valid macvlan parent link"):
        parent_options.parent(network(driver="macvlan", options={"parent": "lo"}))


def test_ranges_of_exposed_ports() -> None:
    assert parse_exposed("80") == [(80, "tcp")]
    assert parse_exposed("8000-8002/udp") == [(8000, "udp"), (8001, "udp"), (8002, "udp")]
    for wrong in ("8002-8000", "80-", "-80", "80-x", "0-3", "80/x"):
        with pytest.raises(InvalidArgument, match="invalid port"):
            parse_exposed(wrong)
