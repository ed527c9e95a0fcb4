"""Netlink messages as bytes."""

from __future__ import annotations

import errno
import struct
import sys

import pytest

from hooper.linux import netlink
from hooper.linux import netlink_route as route


def test_attributes_are_padded_and_parsed_back() -> None:
    data = netlink.attribute(1, b"abc") + netlink.text(2, "eth0") + netlink.u32(3, 7)
    assert len(data) % 4 == 0
    assert list(netlink.parse(data)) == [(1, b"abc"), (2, b"eth0\0"), (3, (7).to_bytes(4, sys.byteorder))]


def test_nested_attributes_say_so_and_lose_the_flag_when_parsed() -> None:
    data = netlink.nested(5, netlink.attribute(1, b"x"))
    assert struct.unpack_from("=HH", data)[1] == 5 | netlink.NLA_F_NESTED
    ((kind, inner),) = netlink.parse(data)
    assert kind == 5
    assert list(netlink.parse(inner)) == [(1, b"x")]


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\0\0\0", b"\2\0\1\0zz"])
def test_broken_attributes_end_the_parse(data: bytes) -> None:
    assert list(netlink.parse(data)) == []


def _error(code: int) -> bytes:
    return (-code).to_bytes(4, sys.byteorder, signed=True) + bytes(16)


def test_an_acknowledgement_is_no_error() -> None:
    assert netlink.error_of(0, _error(0)) is None


def test_an_error_has_the_kernels_text() -> None:
    body = _error(errno.EEXIST) + netlink.text(1, "Already there")
    failure = netlink.error_of(0x100 | 0x200, body)
    assert isinstance(failure, FileExistsError)
    assert "Already there" in str(failure)


def test_a_veth_pair_is_one_message() -> None:
    message = route.new_veth("hpv1", 4, "eth0", 9, mac="02:42:ac:11:00:02", mtu=1400)
    top = dict(netlink.parse(message.body[16:]))
    info = dict(netlink.parse(top[18]))
    peer = dict(netlink.parse(info[2]))[1]
    inside = dict(netlink.parse(peer[16:]))
    assert top[3] == b"hpv1\0"
    assert info[1] == b"veth\0"
    assert inside[3] == b"eth0\0"
    assert inside[1] == bytes.fromhex("0242ac110002")
    assert int.from_bytes(inside[28], sys.byteorder) == 9


def test_a_link_is_told_to_have_no_address_of_its_own() -> None:
    top = dict(netlink.parse(route.no_address_of_its_own("hpv1").body[16:]))
    family = dict(netlink.parse(top[26]))[10]
    assert top[3] == b"hpv1\0"
    assert list(netlink.parse(family)) == [(8, b"\1")]


@pytest.mark.parametrize(("address", "family"), [("10.0.0.1/24", 2), ("fd00::1/64", 10)])
def test_addresses_carry_their_prefix(address: str, family: int) -> None:
    body = route.add_address(3, address).body
    assert body[0] == family
    assert body[1] == int(address.partition("/")[2])
