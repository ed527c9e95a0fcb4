"""What the kernel makes of our messages, as the nft program shows it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hooper.linux import nftables as nft
from hooper.testing.network import playing_host
from hooper_net_bridge import ruleset

pytestmark = pytest.mark.root


@pytest.fixture
def filter_() -> Iterator[nft.Nftables]:
    with playing_host():
        opened = nft.Nftables()
        yield opened
        opened.close()


def shown() -> str:
    return subprocess.check_output(["nft", "list", "ruleset"], text=True)


def test_the_rules_read_as_intended(filter_: nft.Nftables) -> None:
    filter_.commit(ruleset.load("t"))
    text = " ".join(shown().split())
    for rule in (
        "iifname @bridges ip daddr 127.0.0.0/8 drop",
        "dnat ip to ip daddr . meta l4proto . th dport map @published4_at",
        "fib daddr type local dnat ip to meta l4proto . th dport map @published4",
        "fib daddr type local dnat ip6 to meta l4proto . th dport map @published6",
        "ip saddr . oifname @local4 ct status dnat masquerade",
        "ip saddr . oifname @local4 return",
        "ip saddr @masqueraded4 masquerade",
        "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
        "ct state established,related accept iifname . oifname @same accept iifname @internal drop",
        "snat ip to ip saddr map @sources4",
        "oifname @internal drop oifname @bridges ct status dnat accept meta nfproto ipv4 oifname @open4 accept",
        "oifname @routed4 meta l4proto icmp accept ip daddr . meta l4proto . th dport @allowed4 accept",
        "ip6 daddr . meta l4proto . th dport @allowed6 accept oifname @bridges drop",
        "ip6 daddr != ::1 fib daddr type local dnat ip6",
    ):
        assert rule in text


def test_loading_again_keeps_elements_and_doubles_no_rule(filter_: nft.Nftables) -> None:
    filter_.commit(ruleset.load("t"))
    filter_.commit([nft.add_elements("t", ruleset.BRIDGES, [nft.Element(nft.interface("br9"))])])
    before = shown()
    assert '"br9"' in before
    filter_.commit(ruleset.load("t"))
    assert shown() == before


def test_a_transaction_that_fails_changes_nothing(filter_: nft.Nftables) -> None:
    filter_.commit(ruleset.load("t"))
    before = shown()
    bridge = [nft.Element(nft.interface("br9"))]
    missing = [nft.Element(nft.interface("br8"))]
    with pytest.raises(FileNotFoundError):
        filter_.commit(
            [nft.add_elements("t", ruleset.BRIDGES, bridge), nft.delete_elements("t", ruleset.BRIDGES, missing)]
        )
    assert shown() == before


def test_elements_and_chains_are_read_back(filter_: nft.Nftables) -> None:
    filter_.commit(ruleset.load("t"))
    wanted = nft.Element(nft.concat(b"\6", b"\x1f\x90"), nft.concat(bytes([10, 0, 0, 2]), b"\0\x50"))
    filter_.commit([nft.add_elements("t", ruleset.PUBLISHED4, [wanted])])
    assert filter_.elements("t", ruleset.PUBLISHED4) == [wanted]
    assert "tcp . 8080 : 10.0.0.2 . 80" in shown()
    forward = [chain for chain in filter_.chains() if chain.name == "forward"]
    assert [(chain.table, chain.hook, chain.policy) for chain in forward] == [("t", 2, nft.ACCEPT)]
    assert not filter_.has_table("other")


def test_many_elements_fit_in_one_answer_or_more(filter_: nft.Nftables) -> None:
    filter_.commit(ruleset.load("t"))
    elements = [
        nft.Element(nft.concat(b"\6", port.to_bytes(2, "big")), nft.concat(bytes([10, 0, 0, 2]), b"\0\x50"))
        for port in range(1, 3001)
    ]
    filter_.commit([nft.add_elements("t", ruleset.PUBLISHED4, elements[at : at + 500]) for at in range(0, 3000, 500)])
    assert set(filter_.elements("t", ruleset.PUBLISHED4)) == set(elements)
