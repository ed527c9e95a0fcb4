"""Messages in, messages out."""

from __future__ import annotations

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, A, DNSQuestion, DNSRecord

from hooper.dns import answers
from hooper.dns.answers import Question
from hooper.dns.protocol import Place, Served
from hooper.dns.table import Table


def table(count: int = 1) -> Table:
    made = Table()
    made.put(Served(id="asker", places=[Place("n", "net", ["me"], ["10.0.0.1"])]))
    for number in range(count):
        at = [f"10.0.{number // 250}.{number % 250 + 2}", f"fd00::{number + 2:x}"]
        made.put(Served(id=f"c{number}", places=[Place("n", "net", [f"c{number}", "web"], at)]))
    return made


def asked(name: str, kind: str = "A", *, edns: int = 0, tcp: bool = False) -> Question:
    record = DNSRecord.question(name, kind)
    if edns:
        record.add_ar(EDNS0(udp_len=edns))
    question = answers.read(bytes(record.pack()), tcp=tcp)
    assert isinstance(question, Question)
    return question


def told(question: Question, names: Table) -> DNSRecord:
    data = answers.answer(question, names, "asker")
    assert data is not None and len(data) <= question.limit
    return DNSRecord.parse(data)


def test_an_answer_repeats_id_and_question_and_says_that_others_may_be_asked_for() -> None:
    question = asked("WEB.net")
    answer = told(question, table())
    assert answer.header.id == question.record.header.id
    assert str(answer.q.qname) == "WEB.net."
    assert (answer.header.qr, answer.header.ra, answer.header.rd, answer.header.aa) == (1, 1, 1, 0)
    assert [(str(rr.rname), str(rr.rdata)) for rr in answer.rr] == [("WEB.net.", "10.0.0.2")]


@pytest.mark.parametrize(
    ("kind", "expected"), [("A", ["10.0.0.2"]), ("AAAA", ["fd00::2"]), ("MX", []), ("TXT", []), ("HTTPS", [])]
)
def test_each_type_of_a_known_name(kind: str, expected: list[str]) -> None:
    answer = told(asked("web", kind), table())
    assert answer.header.rcode == RCODE.NOERROR
    assert [str(rr.rdata) for rr in answer.rr] == expected


@pytest.mark.parametrize("name", ["2.0.0.10.in-addr.arpa", f"2.{'0.' * 29}d.f.ip6.arpa"])
def test_an_address_leads_to_the_name(name: str) -> None:
    answer = told(asked(name, "PTR"), table())
    assert [str(rr.rdata) for rr in answer.rr] == ["c0.net."]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("example.org", "A"), ("example.org", "MX"), ("9.9.9.9.in-addr.arpa", "PTR"), ("x.in-addr.arpa", "PTR"),
        ("web.other", "A"), ("1.2.ip6.arpa", "PTR"), (".", "NS"),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_for_others(name: str, kind: str) -> None:
    assert answers.answer(asked(name, kind), table(), "asker") is None


def test_a_class_that_is_not_of_the_internet_is_for_others() -> None:
    question = answers.read(bytes(DNSRecord(q=DNSQuestion("web", QTYPE.A, 3)).pack()), tcp=False)
    assert isinstance(question, Question)
    assert answers.answer(question, table(), "asker") is None


def test_many_addresses_are_cut_to_what_fits_and_whole_over_tcp() -> None:
    names = table(300)
    plain = told(asked("web"), names)
    assert plain.header.tc == 1 and 20 < len(plain.rr) < 40
    more = told(asked("web", edns=1232), names)
    assert more.header.tc == 1 and 60 < len(more.rr) < 80
    six = told(asked("web", "AAAA"), names)
    assert six.header.tc == 1 and 10 < len(six.rr) < 20
    whole = told(asked("web", tcp=True), names)
    assert whole.header.tc == 0 and len({str(rr.rdata) for rr in whole.rr}) == 300


def test_each_of_several_addresses_comes_first_at_times() -> None:
    names = table(3)
    assert len({str(told(asked("web"), names).rr[0].rdata) for _ in range(200)}) == 3


def test_edns_is_answered_with_edns_and_without_it_is_not() -> None:
    assert [rr.rtype for rr in told(asked("web", edns=4096), table()).ar] == [QTYPE.OPT]
    assert not told(asked("web"), table()).ar


@pytest.mark.parametrize(
    ("change", "rcode"),
    [
        (lambda data: data[:-3], RCODE.FORMERR),
        (lambda data: data[:4] + b"\0\2" + data[6:], RCODE.FORMERR),
        (lambda data: data[:4] + b"\0\0" + data[6:12], RCODE.FORMERR),
        (lambda data: data[:2] + bytes([2 << 3]) + data[3:], RCODE.NOTIMP),
        (lambda data: data[:12] + b"\xc0\x0c" + data[12:], RCODE.FORMERR),
    ],
)
def test_what_is_malformed_or_not_understood_is_told_so(change, rcode: int) -> None:  # type: ignore[no-untyped-def]
    data = change(bytes(DNSRecord.question("web").pack()))
    answer = answers.read(data, tcp=False)
    assert isinstance(answer, bytes)
    header = DNSRecord.parse(answer).header
    assert (header.id, header.qr, header.rcode) == (int.from_bytes(data[:2], "big"), 1, rcode)


def test_answers_and_scraps_get_no_answer() -> None:
    assert answers.read(bytes(DNSRecord.question("web").reply().pack()), tcp=False) is None
    assert answers.read(b"\0\1\2", tcp=False) is None
    assert answers.read(b"", tcp=True) is None


def test_failures_keep_the_question() -> None:
    failure = DNSRecord.parse(asked("a.b", edns=1232).failure("SERVFAIL"))
    assert (failure.header.rcode, str(failure.q.qname)) == (RCODE.SERVFAIL, "a.b.")
    cut = DNSRecord.parse(asked("a.b").truncated())
    assert (cut.header.tc, cut.header.rcode, cut.rr) == (1, RCODE.NOERROR, [])


def test_a_servers_answer_must_be_of_the_same_question() -> None:
    query = DNSRecord.question("example.org", "A")
    data = bytes(query.pack())

    def reply(**changes: object) -> bytes:
        made = query.reply()
        made.add_answer(RR("example.org", rdata=A("1.2.3.4")))
        for name, value in changes.items():
            setattr(made.header, name, value)
        return bytes(made.pack())

    assert answers.is_answer(reply(), data)
    assert answers.is_answer(reply().replace(b"example", b"eXaMPLE"), data)
    assert not answers.is_answer(reply(id=query.header.id ^ 1), data)
    assert not answers.is_answer(data, data)
    assert not answers.is_answer(reply().replace(b"example", b"evil\0\0\0"), data)
    assert answers.is_answer(data[:2] + b"\x81\x05" + bytes(8), data)
    assert not answers.is_answer(data[:2] + b"\x81\x00" + bytes(8), data)
    assert not answers.is_answer(b"", data)
    assert answers.is_failure(reply(rcode=RCODE.REFUSED)) and not answers.is_failure(reply(rcode=RCODE.NXDOMAIN))
