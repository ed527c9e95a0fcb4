"""Questions from within containers, and servers for what containers ask outside."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from dnslib import EDNS0, QTYPE, RCODE, RR, TXT, A, DNSRecord

import support
from hooper.linux.netlink import entered

RESOLVER = ("127.0.0.11", 53)


@contextlib.contextmanager
def within(engine: support.Engine, container: str) -> Iterator[None]:
    """This thread is in the network namespace of a running container."""
    with beside(engine.inspect(container)["State"]["Pid"]):
        yield


@contextlib.contextmanager
def beside(pid: int) -> Iterator[None]:
    """This thread is in the network namespace of that process."""
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        with entered(netns):
            yield
    finally:
        os.close(netns)


def exchange(engine: support.Engine, container: str, data: bytes, *, tcp: bool = False, seconds: float = 10) -> bytes:
    """Sends a message to the resolver from within a running container; the answer, b"" if none came."""
    return exchange_beside(engine.inspect(container)["State"]["Pid"], data, tcp=tcp, seconds=seconds)


def exchange_beside(pid: int, data: bytes, *, tcp: bool = False, seconds: float = 10) -> bytes:
    """Likewise, in the network namespace of that process."""
    with beside(pid):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(seconds)
        sock.connect(RESOLVER)
        try:
            if not tcp:
                sock.send(data)
                return sock.recv(65535)
            sock.sendall(len(data).to_bytes(2, "big") + data)
            with sock.makefile("rb") as stream:
                return stream.read(int.from_bytes(stream.read(2), "big"))
        except TimeoutError:
            return b""


def ask(
    engine: support.Engine, container: str, name: str, kind: str = "A", *, tcp: bool = False, edns: int = 0
) -> DNSRecord:
    """The answer to one question."""
    record = DNSRecord.question(name, kind)
    if edns:
        record.add_ar(EDNS0(udp_len=edns))
    answer = DNSRecord.parse(exchange(engine, container, bytes(record.pack()), tcp=tcp))
    assert answer.header.id == record.header.id
    return answer


def found(engine: support.Engine, container: str, name: str, kind: str = "A", *, tcp: bool = False) -> list[str]:
    """What the name has, in order; [] also if there is no such name."""
    return sorted(str(rr.rdata) for rr in ask(engine, container, name, kind, tcp=tcp).rr)


def resolvers(exec_root: Path) -> list[int]:
    """Pids of the resolver of the daemon with this exec root: none or one."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"hooper.dns.process" in words and str(exec_root).encode() in words:
                    pids.append(int(entry.name))
    return pids


class Server:
    """A name server: `answer` makes an answer from a question and whether it came over TCP; None: silence."""

    def __init__(self, address: str, answer: Callable[[DNSRecord, bool], DNSRecord | None], port: int = 53) -> None:
        self.asked: list[DNSRecord] = []
        self._answer = answer
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._udp.bind((address, port))
        self.port = self._udp.getsockname()[1]
        self._tcp.bind((address, self.port))
        self._tcp.listen()
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._datagrams, self._connections)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _told(self, data: bytes, tcp: bool) -> bytes:
        query = DNSRecord.parse(data)
        self.asked.append(query)
        answer = self._answer(query, tcp)
        return b"" if answer is None else bytes(answer.pack())

    def _datagrams(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = self._udp.recvfrom(65535)
                if not data:
                    return
                if answer := self._told(data, False):
                    self._udp.sendto(answer, sender)

    def _connections(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                with connection, connection.makefile("rb") as stream:
                    answer = self._told(stream.read(int.from_bytes(stream.read(2), "big")), True)
                    connection.sendall(len(answer).to_bytes(2, "big") + answer if answer else b"")


@contextlib.contextmanager
def server(
    address: str, answer: Callable[[DNSRecord, bool], DNSRecord | None] | None = None, port: int = 53
) -> Iterator[Server]:
    made = Server(address, answer or example, port)
    try:
        yield made
    finally:
        made.close()


def example(query: DNSRecord, tcp: bool) -> DNSRecord:
    """small.example has an address, large.example texts for which UDP is too small, and nothing else is there."""
    reply = query.reply(ra=1)
    name = str(query.q.qname).lower()
    if name == "small.example." and query.q.qtype == QTYPE.A:
        reply.add_answer(RR(name, QTYPE.A, rdata=A("192.0.2.7"), ttl=60))
    elif name == "large.example.":
        if not tcp:
            reply.header.tc = 1
        else:
            for number in range(40):
                reply.add_answer(RR(name, QTYPE.TXT, rdata=TXT(f"{number:02}" * 100), ttl=60))
    elif name != "small.example.":
        reply.header.rcode = RCODE.NXDOMAIN
    return reply


def refuse(query: DNSRecord, tcp: bool) -> DNSRecord:
    reply = query.reply()
    reply.header.rcode = RCODE.REFUSED
    return reply


def say_nothing(query: DNSRecord, tcp: bool) -> None:
    """A server that is there and does not answer."""
