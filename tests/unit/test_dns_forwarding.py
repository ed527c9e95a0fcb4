"""Asking servers outside, over real sockets of this host's loopback."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from dnslib import EDNS0, RCODE, DNSRecord

from dns_support import Server, example, refuse, say_nothing, server
from hooper.dns import forwarding
from hooper.dns.forwarding import Exchange, Forwarder, HostServers
from hooper.runtime.loop import READ, Loop


class Host:
    """A forwarder with servers at 127.0.9.1, .2 and so on, on a loop in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.faults: list[BaseException] = []
        self.loop = Loop(self.faults.append)
        self.servers: Sequence[str] = ["127.0.9.1", "127.0.9.2"]
        self.forwarder = Forwarder(self.loop, lambda: self.servers, port=port)
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue()
        reader, self._wake = os.pipe()

        def woken(_: int) -> None:
            os.read(reader, 1)
            self._calls.get()()

        self.loop.watch(reader, READ, woken)
        threading.Thread(target=self.loop.run, daemon=True).start()

    def call(self, function: Callable[[], object]) -> None:
        """Calls it in the loop's thread."""
        self._calls.put(function)
        os.write(self._wake, b".")

    def ask(self, name: str, *, tcp: bool = False, edns: int = 0) -> DNSRecord | None:
        record = DNSRecord.question(name)
        if edns:
            record.add_ar(EDNS0(udp_len=edns))
        told: queue.Queue[bytes | None] = queue.Queue()
        self.call(lambda: self.forwarder.ask(bytes(record.pack()), told.put, tcp=tcp))
        data = told.get(timeout=20)
        assert told.empty() and not self.faults
        if data is None:
            return None
        answer = DNSRecord.parse(data)
        assert answer.header.id == record.header.id
        return answer


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "TRY_S", 0.2)


@pytest.fixture
def first() -> Iterator[Server]:
    with server("127.0.9.1", port=0) as made:
        yield made


def addresses(answer: DNSRecord | None) -> list[str]:
    assert answer is not None
    return [str(rr.rdata) for rr in answer.rr]


@pytest.mark.parametrize("tcp", [False, True])
def test_the_first_server_is_asked_and_its_answer_passed_on(first: Server, tcp: bool) -> None:
    host = Host(first.port)
    assert addresses(host.ask("small.example", tcp=tcp)) == ["192.0.2.7"]
    assert [str(query.q.qname) for query in first.asked] == ["small.example."]
    missing = host.ask("missing.example", tcp=tcp)
    assert missing is not None and missing.header.rcode == RCODE.NXDOMAIN


def test_what_the_client_asks_for_reaches_the_server(first: Server) -> None:
    Host(first.port).ask("small.example", edns=4096)
    assert [rr.rclass for rr in first.asked[0].ar] == [4096]


def test_ids_are_not_the_clients(first: Server) -> None:
    host = Host(first.port)
    ids = set()
    for _ in range(8):
        host.ask("small.example")
        ids.add(first.asked[-1].header.id)
    assert len(ids) > 1


def test_an_answer_that_is_cut_tells_so_and_is_whole_over_tcp(first: Server) -> None:
    host = Host(first.port)
    cut, whole = host.ask("large.example"), host.ask("large.example", tcp=True)
    assert cut is not None and cut.header.tc == 1
    assert whole is not None and len(whole.rr) == 40


@pytest.mark.parametrize("tcp", [False, True])
def test_a_server_that_is_not_there_is_passed_over(first: Server, tcp: bool) -> None:
    host = Host(first.port)
    host.servers = ["127.0.9.2", "127.0.9.1"]
    assert addresses(host.ask("small.example", tcp=tcp)) == ["192.0.2.7"]


def test_a_silent_server_is_passed_over_and_asked_last_from_then_on(first: Server) -> None:
    with server("127.0.9.2", say_nothing, first.port) as silent:
        host = Host(first.port)
        host.servers = ["127.0.9.2", "127.0.9.1"]
        for _ in range(3):
            assert addresses(host.ask("small.example")) == ["192.0.2.7"]
        assert len(silent.asked) == 1


def test_a_server_that_refuses_is_passed_over(first: Server) -> None:
    with server("127.0.9.2", refuse, first.port):
        host = Host(first.port)
        host.servers = ["127.0.9.2", "127.0.9.1"]
        assert addresses(host.ask("small.example")) == ["192.0.2.7"]


def test_the_refusal_is_the_answer_if_there_is_no_better() -> None:
    with server("127.0.9.1", refuse, 0) as only:
        answer = Host(only.port).ask("small.example")
        assert answer is not None and answer.header.rcode == RCODE.REFUSED


def test_a_lost_datagram_is_sent_again() -> None:
    def second_time(query: DNSRecord, tcp: bool) -> DNSRecord | None:
        return example(query, tcp) if len(lossy.asked) > 1 else None

    with server("127.0.9.1", second_time, 0) as lossy:
        host = Host(lossy.port)
        host.servers = ["127.0.9.1"]
        assert addresses(host.ask("small.example")) == ["192.0.2.7"]


def test_a_late_answer_of_the_first_is_taken_while_the_second_is_asked() -> None:
    go = threading.Event()

    def late(query: DNSRecord, tcp: bool) -> DNSRecord | None:
        go.wait(5)
        return example(query, tcp)

    def second(query: DNSRecord, tcp: bool) -> None:
        go.set()

    with server("127.0.9.1", late, 0) as slow, server("127.0.9.2", second, slow.port) as other:
        assert addresses(Host(slow.port).ask("small.example")) == ["192.0.2.7"]
        assert len(other.asked) == 1


def test_an_answer_to_another_question_is_ignored() -> None:
    def forged(query: DNSRecord, tcp: bool) -> DNSRecord:
        reply = example(query, tcp)
        reply.header.id ^= 1
        return reply

    with server("127.0.9.1", forged, 0) as forger:
        host = Host(forger.port)
        host.servers = ["127.0.9.1"]
        assert host.ask("small.example") is None


def test_nobody_answers() -> None:
    with server("127.0.9.1", say_nothing, 0) as silent:
        host = Host(silent.port)
        assert host.ask("small.example") is None
        host.servers = ["not an address", "::", "127.0.9.2"]
        assert host.ask("small.example") is None
        host.servers = []
        assert host.ask("small.example") is None


def test_a_cancelled_exchange_says_nothing_more(first: Server) -> None:
    host = Host(first.port)
    told: list[bytes | None] = []

    def begin() -> None:
        exchange: Exchange = host.forwarder.ask(data, told.append, tcp=False)
        host.loop.call_later(0, exchange.cancel)

    data = bytes(DNSRecord.question("missing.example").pack())
    host.call(begin)
    assert addresses(host.ask("small.example")) == ["192.0.2.7"]
    assert told == []


def test_the_hosts_servers_are_read_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostServers, "CHECK_S", 0.0)
    path = tmp_path / "resolv.conf"
    servers = HostServers(str(path))
    assert servers() == [*forwarding.DEFAULT_SERVERS]
    path.write_text("# nameserver 1.1.1.1\nnameserver 127.0.0.53\nsearch a\nnameserver fe80::1%lo\nnameserver\n")
    assert servers() == ["127.0.0.53", "fe80::1%lo"]
    (tmp_path / "new").write_text("nameserver 192.0.2.1\n")
    (tmp_path / "new").rename(path)
    assert servers() == ["192.0.2.1"]
