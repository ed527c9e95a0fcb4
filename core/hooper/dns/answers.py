"""From the bytes of a question to the bytes of an answer, or to the decision to ask somebody else. Pure.

RFC 1035 with EDNS (RFC 6891). Anybody in a container may send anything here: whatever it is, it is answered, passed
on or ignored, and never raises.
"""

from __future__ import annotations

import ipaddress
import random
from dataclasses import dataclass

from dnslib import AAAA, EDNS0, OPCODE, PTR, QTYPE, RCODE, RR, A, DNSLabel, DNSRecord

from hooper.dns.table import Table

TTL_S = 5
"""A container that is started again may have another address, so this is short."""

PLAIN_MAX = 512
"""Bytes of a UDP answer to who does not say that more is welcome."""
MESSAGE_MAX = 65535
HEADER_LENGTH = 12
_IN, _ANY_CLASS = 1, 255
_A, _AAAA, _PTR, _ANY = QTYPE.A, QTYPE.AAAA, QTYPE.PTR, QTYPE.ANY


@dataclass(frozen=True)
class Question:
    """A well-formed query with one question."""

    record: DNSRecord
    name: str
    """As it was asked, without the dot at the end."""
    type: int
    limit: int
    """Bytes that its answer may have."""

    @property
    def is_bare_host(self) -> bool:
        """It asks for the addresses of a name without dots."""
        return self.type in (_A, _AAAA) and "." not in self.name

    def failure(self, rcode: str) -> bytes:
        """An answer that says why there is none: SERVFAIL, REFUSED…"""
        return _packed(_reply(self.record, rcode))

    def truncated(self) -> bytes:
        """An answer that says: ask again over TCP."""
        reply = _reply(self.record)
        reply.header.tc = 1
        return _packed(reply)


def read(data: bytes, *, tcp: bool) -> Question | bytes | None:
    """The question in a message; or the answer to one that is malformed or not understood; or None for what
    deserves no answer: an answer, or a scrap."""
    if len(data) < HEADER_LENGTH or data[2] & 0x80:
        return None
    try:
        record = DNSRecord.parse(data)
    except Exception:
        # The parser raises more than its own kind of error for some malformed messages.
        return _bare(data, RCODE.FORMERR)
    if record.header.opcode != OPCODE.QUERY:
        return _bare(data, RCODE.NOTIMP)
    if len(record.questions) != 1:
        return _bare(data, RCODE.FORMERR)
    asked = record.q
    name = b".".join(asked.qname.label).decode(errors="replace")
    return Question(record, name, asked.qtype, MESSAGE_MAX if tcp else _udp_limit(record))


def _bare(data: bytes, rcode: int) -> bytes:
    """A header alone: its id, opcode and RD are those of the question."""
    return data[:2] + bytes([0x80 | data[2] & 0x79, 0x80 | rcode]) + bytes(8)


def _edns(record: DNSRecord) -> RR | None:
    return next((extra for extra in record.ar if extra.rtype == QTYPE.OPT), None)


def _udp_limit(record: DNSRecord) -> int:
    option = _edns(record)
    return max(PLAIN_MAX, option.rclass) if option is not None else PLAIN_MAX


def _reply(query: DNSRecord, rcode: str = "NOERROR") -> DNSRecord:
    reply = query.reply(ra=1, aa=0)
    reply.header.rcode = getattr(RCODE, rcode)
    if _edns(query) is not None:
        reply.add_ar(EDNS0(udp_len=1232))
    return reply


def _packed(reply: DNSRecord) -> bytes:
    return bytes(reply.pack())


def answer(question: Question, table: Table, asker: str) -> bytes | None:
    """The answer from the table; None if the question is for somebody else."""
    asked = question.record.q
    if asked.qclass not in (_IN, _ANY_CLASS):
        return None
    if asked.qtype == _PTR and (address := reversed_address(question.name)):
        host = table.name(asker, address)
        return None if host is None else _filled(question, [_pointer(asked.qname, host)])
    wanted = {_A: (4,), _AAAA: (6,), _ANY: (4, 6)}.get(asked.qtype, ())
    found = [table.addresses(asker, question.name, version) for version in wanted or (4,)]
    if all(addresses is None for addresses in found):
        return None
    # For another type the name is there and has none: no server outside knows better.
    addresses = [address for some in found for address in some or ()] if wanted else []
    return _filled(question, [_address(asked.qname, address) for address in _turned(addresses)])


def _turned(addresses: list[str]) -> list[str]:
    """Begun at another place each time: clients take the first, and each gets its share of them."""
    if len(addresses) < 2:
        return addresses
    start = random.randrange(len(addresses))
    return addresses[start:] + addresses[:start]


def _address(name: DNSLabel, address: str) -> RR:
    if ":" in address:
        return RR(name, _AAAA, rdata=AAAA(address), ttl=TTL_S)
    return RR(name, _A, rdata=A(address), ttl=TTL_S)


def _pointer(name: DNSLabel, host: str) -> RR:
    return RR(name, _PTR, rdata=PTR(DNSLabel(host.encode().split(b"."))), ttl=TTL_S)


def _filled(question: Question, records: list[RR]) -> bytes:
    """As many of the records as the asker takes; the rest it may ask for over TCP."""
    reply = _reply(question.record)
    reply.rr.extend(records)
    data = _packed(reply)
    while len(data) > question.limit:
        reply.header.tc = 1
        excess = len(data) - question.limit
        length = 28 if reply.rr[-1].rtype == _AAAA else 16
        del reply.rr[-(excess // length + 1) :]
        data = _packed(reply)
    return data


def reversed_address(name: str) -> str | None:
    """The address in a name such as 2.0.18.172.in-addr.arpa; None if there is none."""
    lower = name.lower()
    try:
        if lower.endswith(".in-addr.arpa"):
            return str(ipaddress.IPv4Address(".".join(reversed(lower[:-13].split(".")))))
        if lower.endswith(".ip6.arpa"):
            digits = lower[:-9].split(".")
            if len(digits) == 32 and all(len(digit) == 1 for digit in digits):
                return str(ipaddress.IPv6Address(int("".join(reversed(digits)), 16)))
    except ValueError:
        return None
    return None


def is_answer(data: bytes, query: bytes) -> bool:
    """The message answers this query: same id, same question. Names are compared as DNS does, without case."""
    if len(data) < HEADER_LENGTH or data[:2] != query[:2] or not data[2] & 0x80:
        return False
    if data[4:6] == b"\0\0":
        # Servers that refuse or fail may leave the question out.
        return rcode(data) != 0
    end = question_end(query)
    return data[HEADER_LENGTH:end].lower() == query[HEADER_LENGTH:end].lower()


def question_end(data: bytes) -> int:
    """Where the first question of a well-formed query ends."""
    offset = HEADER_LENGTH
    while data[offset]:
        if data[offset] & 0xC0:
            return offset + 6
        offset += data[offset] + 1
    return offset + 5


def rcode(data: bytes) -> int:
    """The response code of a message that is at least a header."""
    return data[3] & 0x0F


def is_failure(data: bytes) -> bool:
    """The server could or would not tell: another may."""
    return rcode(data) in (RCODE.SERVFAIL, RCODE.REFUSED, RCODE.NOTIMP)
