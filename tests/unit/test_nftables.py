"""Messages to the packet filter as bytes."""

from __future__ import annotations

from hooper.linux import nftables as nft
from hooper.linux.netlink import parse

PORTS = nft.Set("ports", (nft.PROTOCOL, nft.PORT), (nft.IPV4, nft.PORT))
SUBNETS = nft.Set("subnets", (nft.IPV4,), interval=True)


def attributes(body: bytes) -> dict[int, bytes]:
    return dict(parse(body[4:]))


def test_concatenated_fields_fill_whole_registers() -> None:
    assert nft.concat(b"\6", b"\0\x50") == b"\6\0\0\0\0\x50\0\0"


def test_a_map_tells_its_types_as_nft_numbers_them() -> None:
    made = attributes(nft.add_set("t", PORTS, 1).body)
    assert int.from_bytes(made[4], "big") == 12 << 6 | 13
    assert int.from_bytes(made[5], "big") == 8
    assert int.from_bytes(made[7], "big") == 8


def test_an_interval_is_two_elements() -> None:
    body = nft.add_elements("t", SUBNETS, [nft.Element(b"\n\0\0\0", end=b"\n\0\1\0")]).body
    elements = [dict(parse(raw)) for _, raw in parse(attributes(body)[3])]
    assert len(elements) == 2
    assert int.from_bytes(elements[1][3], "big") == 1


def test_an_element_has_key_and_data() -> None:
    body = nft.add_elements("t", PORTS, [nft.Element(b"k" * 8, b"d" * 8)]).body
    ((_, raw),) = parse(attributes(body)[3])
    element = dict(parse(raw))
    assert dict(parse(element[1])) == {1: b"k" * 8}
    assert dict(parse(element[2])) == {1: b"d" * 8}


def test_a_negative_verdict_is_signed() -> None:
    assert nft.be32(1, -3)[4:] == b"\xff\xff\xff\xfd"
