"""Whatever anybody sends: it is answered, passed on or ignored."""

from __future__ import annotations

from dnslib import EDNS0, QTYPE, DNSHeader, DNSQuestion, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from hooper.dns import answers
from hooper.dns.answers import Question
from hooper.dns.protocol import Place, Served
from hooper.dns.table import Table

labels = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,20}", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=5).map(".".join)
kinds = st.sampled_from(["A", "AAAA", "PTR", "ANY", "MX", "SRV", "TXT", "SOA", "HTTPS"])


def table() -> Table:
    made = Table()
    made.put(Served(id="asker", places=[Place("n", "net", ["me"], ["10.0.0.1"])]))
    made.put(Served(id="web", places=[Place("n", "net", ["web"], ["10.0.0.2", "fd00::2"])]))
    return made


TABLE = table()


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    question = DNSQuestion(draw(st.one_of(names, st.just("web"))), getattr(QTYPE, draw(kinds)))
    record = DNSRecord(DNSHeader(id=draw(st.integers(0, 65535)), bitmap=1 << 8), q=question)
    if draw(st.booleans()):
        record.add_ar(EDNS0(udp_len=draw(st.integers(0, 65535))))
    return bytes(record.pack())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(queries()))
    for position, value in draw(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8)):
        data[position % len(data)] = value
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=12))


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=80), damaged()), st.booleans())
def test_nothing_that_is_sent_raises(data: bytes, tcp: bool) -> None:
    question = answers.read(data, tcp=tcp)
    if isinstance(question, bytes):
        assert question[:2] == data[:2] and question[2] & 0x80
    elif question is not None:
        answer = answers.answer(question, TABLE, "asker")
        for made in (answer, question.failure("SERVFAIL"), question.truncated()):
            if made is not None:
                assert made[:2] == data[:2] and made[2] & 0x80
        assert isinstance(question.is_bare_host, bool)
        answers.is_answer(question.failure("SERVFAIL"), data)


@settings(max_examples=300, deadline=None)
@given(queries(), st.booleans())
def test_a_good_query_has_a_parsable_answer_that_fits(data: bytes, tcp: bool) -> None:
    question = answers.read(data, tcp=tcp)
    assert isinstance(question, Question)
    answer = answers.answer(question, TABLE, "asker")
    if answer is not None:
        parsed = DNSRecord.parse(answer)
        assert parsed.q == DNSRecord.parse(data).q and len(answer) <= question.limit
        assert {rr.rtype for rr in parsed.rr} <= {QTYPE.A, QTYPE.AAAA, QTYPE.PTR}
    assert answers.is_answer(question.failure("NXDOMAIN"), data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), queries())
def test_no_answer_of_a_server_raises(data: bytes, query: bytes) -> None:
    if answers.is_answer(data, query):
        assert data[:2] == query[:2]
        assert isinstance(answers.is_failure(data), bool)


@given(names, names)
def test_a_name_is_found_whatever_its_case(member: str, network: str) -> None:
    made = Table()
    made.put(Served(id="a", places=[Place("n", network, [member], ["10.0.0.1"])]))
    for asked in (member, member.upper(), member.lower(), f"{member}.{network}", f"{member}.{network}".swapcase()):
        assert made.addresses("a", asked, 4) == ["10.0.0.1"]
