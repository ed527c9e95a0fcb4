"""Subnets and addresses: which are given out, and which are refused."""

from __future__ import annotations

import pytest

from hooper.api.errors import Conflict, Forbidden, InvalidArgument, Unavailable
from hooper.api.network import Network, Pool
from hooper.engine import ipam


def network(*pools: Pool, name: str = "net") -> Network:
    return Network(id="ab" * 32, name=name, driver="bridge", created=0.0, pools=list(pools))


def test_the_first_default_subnet_that_is_free_is_chosen() -> None:
    space = ipam.AddressSpace()
    assert str(space.choose([])) == "172.17.0.0/16"
    assert str(space.choose(["172.17.3.1/24", "172.18.0.0/16", "fd00::1/64"])) == "172.19.0.0/16"
    assert str(space.choose(["172.16.0.0/12", "192.168.1.7/24"])) == "192.168.16.0/20"
    assert space.choose([], 6) is None


def test_configured_pools_take_the_place_of_the_default_ones() -> None:
    space = ipam.AddressSpace(["10.200.0.0/22:24", "fd00:5::/32:64"])
    assert str(space.choose(["10.200.0.0/24", "10.200.2.0/23"])) == "10.200.1.0/24"
    assert str(space.choose(["fd00:5::/64"], 6)) == "fd00:5:0:1::/64"
    with pytest.raises(Unavailable, match="default_address_pools"):
        space.choose(["10.200.0.0/16"])
    assert str(ipam.AddressSpace(["fd00:5::/32:64"]).choose([])) == "172.17.0.0/16"


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.0.0.0/8:x", "10.0.0.0/16:8", "10.0.0.0/16:31", "a:24", ""])
def test_pools_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument, match="address pool"):
        ipam.AddressSpace([text])


def test_no_default_subnet_is_left() -> None:
    with pytest.raises(Unavailable, match="non-overlapping"):
        ipam.AddressSpace().choose(["172.16.0.0/12", "192.168.0.0/16"])


def test_a_pool_gets_its_gateway() -> None:
    assert ipam.complete([Pool("10.1.2.3/24")], []) == [Pool("10.1.2.0/24", "10.1.2.1")]


@pytest.mark.parametrize(
    ("pool", "error", "text"),
    [
        (Pool("nonsense"), InvalidArgument, "invalid subnet"),
        (Pool("10.0.0.0/31"), InvalidArgument, "no room"),
        (Pool("10.0.0.0/24", "10.0.1.1"), InvalidArgument, "no matching subnet for gateway 10.0.1.1"),
        (Pool("10.0.0.0/24", "x"), InvalidArgument, "no matching subnet for gateway"),
        (Pool("10.0.0.0/24", ip_range="10.0.1.0/28"), InvalidArgument, "no matching subnet for range"),
        (Pool("10.0.0.0/24", ip_range="10.0.0.0/16"), InvalidArgument, "no matching subnet for range"),
        (Pool("10.0.0.0/24", auxiliary={"a": "10.9.0.1"}), InvalidArgument, "aux-address"),
        (Pool("10.9.0.0/16"), Forbidden, "Pool overlaps with other one on this address space"),
    ],
)
def test_bad_pools(pool: Pool, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ipam.complete([pool], ["10.9.8.0/24"])


def test_pools_of_one_network_must_not_overlap() -> None:
    with pytest.raises(Forbidden):
        ipam.complete([Pool("10.0.0.0/24"), Pool("10.0.0.128/25")], [])


def test_addresses_are_given_in_order_and_not_reused_at_once() -> None:
    pool = ipam.AddressPool(Pool("10.0.0.0/29", "10.0.0.1"))
    first = [pool.take(network()) for _ in range(2)]
    assert first == ["10.0.0.2/29", "10.0.0.3/29"]
    pool.release(first[0])
    assert [pool.take(network()) for _ in range(4)] == ["10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29", "10.0.0.2/29"]


def test_a_full_pool_says_which_network() -> None:
    pool = ipam.AddressPool(Pool("10.0.0.0/30", "10.0.0.1"))
    pool.take(network())
    with pytest.raises(Unavailable, match=r"no available IPv4 addresses .* backend"):
        pool.take(network(name="backend"))


def test_range_gateway_and_auxiliary_addresses_are_honoured() -> None:
    given = Pool("10.0.0.0/24", "10.0.0.9", "10.0.0.8/29", {"router": "10.0.0.10"})
    pool = ipam.AddressPool(given, ["10.0.0.8/24"])
    assert [pool.take(network()) for _ in range(5)] == [f"10.0.0.{n}/24" for n in (11, 12, 13, 14, 15)]
    with pytest.raises(Unavailable):
        pool.take(network())


def test_static_addresses() -> None:
    own = network(Pool("10.0.0.0/24", "10.0.0.1", "10.0.0.128/25"))
    addresses = ipam.NetworkAddresses(own, [])
    assert addresses.take(4, "10.0.0.7") == ("10.0.0.7/24", "10.0.0.1")
    for taken in ("10.0.0.7", "10.0.0.1", "10.0.0.255"):
        with pytest.raises(Conflict, match="Address already in use"):
            addresses.take(4, taken)
    with pytest.raises(InvalidArgument, match=r"no configured subnet .*contains IP address 10\.1\.0\.1"):
        addresses.take(4, "10.1.0.1")
    with pytest.raises(InvalidArgument, match="invalid IP address"):
        addresses.take(4, "ten")
    addresses.release("10.0.0.7/24")
    assert addresses.take(4, "10.0.0.7")[0] == "10.0.0.7/24"


def test_each_family_has_its_pools() -> None:
    addresses = ipam.NetworkAddresses(network(Pool("10.0.0.0/24", "10.0.0.1"), Pool("fd00::/64", "fd00::1")), [])
    assert addresses.take(6) == ("fd00::2/64", "fd00::1")
    assert ipam.NetworkAddresses(network(Pool("10.0.0.0/24", "10.0.0.1")), []).take(6) == ("", "")


def test_a_second_pool_is_used_when_the_first_is_full() -> None:
    addresses = ipam.NetworkAddresses(network(Pool("10.0.0.0/30", "10.0.0.1"), Pool("10.0.1.0/30", "10.0.1.1")), [])
    assert [addresses.take(4) for _ in range(2)] == [("10.0.0.2/30", "10.0.0.1"), ("10.0.1.2/30", "10.0.1.1")]


def test_what_was_in_use_before_stays_so() -> None:
    addresses = ipam.NetworkAddresses(network(Pool("10.0.0.0/24", "10.0.0.1")), ["10.0.0.2/24", "10.0.0.3/24", ""])
    assert addresses.take(4)[0] == "10.0.0.4/24"


def test_private_ipv6_subnets_and_macs_are_derived() -> None:
    subnet = ipam.private_subnet6("ab" * 32)
    assert subnet.prefixlen == 64
    assert subnet.is_private
    assert subnet == ipam.private_subnet6("ab" * 32)
    assert subnet != ipam.private_subnet6("cd" * 32)
    assert ipam.mac_address("172.17.0.2/16", "ab" * 32) == "02:42:ac:11:00:02"
    assert ipam.mac_address("", "abcd" * 16) == "02:42:ab:cd:ab:cd"
