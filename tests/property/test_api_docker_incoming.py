"""Requests as they come over a connection, in whatever pieces."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooper.api.errors import InvalidArgument
from hooper_api_docker.errors import ClientGone
from hooper_api_docker.incoming import CONTINUE, MAX_HEAD, Head, Incoming, Malformed, parse
from hooper_api_docker.sockets import Transport

POST = b"POST /x?a=1 HTTP/1.1\r\nHost: d\r\n"


class Wire(Transport):
    """Gives what was sent piece by piece; keeps what is answered."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        super().__init__(socket.socket())
        self.socket.close()
        self.pieces, self.sent = [piece for piece in pieces if piece], b""

    async def receive(self, size: int = 65536) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)


async def whole(incoming: Incoming) -> bytes:
    parts = []
    while (part := await incoming.body()) is not None:
        parts.append(part)
    return b"".join(parts)


def read(*pieces: bytes) -> tuple[list[tuple[Head, bytes]], bytes]:
    """All requests and their bodies, and what was said in between."""

    async def run() -> tuple[list[tuple[Head, bytes]], bytes]:
        wire = Wire(pieces)
        incoming, found = Incoming(wire), []
        while head := await incoming.head():
            found.append((head, await whole(incoming)))
            assert incoming.done
        return found, wire.sent

    return anyio.run(run)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A request, and its body."""
    body = draw(st.binary(max_size=200))
    if draw(st.booleans()):
        return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body, body
    parts, rest = [], body
    while rest:
        size = draw(st.integers(1, len(rest)))
        extension = draw(st.sampled_from([b"", b" ", b";a=b", b' ; a="b c"']))
        parts.append(draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % size + extension + b"\r\n" + rest[:size] + b"\r\n")
        rest = rest[size:]
    end = draw(st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0\r\nA: b\r\nC: d\r\n\r\n"]))
    return POST + b"Transfer-Encoding: Chunked\r\n\r\n" + b"".join(parts) + end, body


@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_the_same_in_whatever_pieces_it_comes(sent: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    stream = b"".join(request for request, _ in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found, answered = read(*pieces)
    assert [body for _, body in found] == [body for _, body in sent]
    assert all((head.method, head.target) == ("POST", b"/x?a=1") for head, _ in found)
    assert not answered


@given(st.binary(max_size=300))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    for beginning in (b"", b"GET / HTTP/1.1\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\n"):
        try:
            read(beginning + data)
        except (Malformed, InvalidArgument, ClientGone):
            pass


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("nonsense", 400),
        ("GET / HTTP/1.1", 400),
        ("GET / HTTP/1.1|Host: a|Host: b", 400),
        ("GET / HTTP/3.7|Host: a", 400),
        ("G@T / HTTP/1.1|Host: a", 400),
        ("GET / HTTP/1.1|Host: a|No colon", 400),
        ("GET / HTTP/1.1|Host: a|Bad Name: x", 400),
        ("GET / HTTP/1.1|Host: a| folded", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 1x", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: -1", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 1|Content-Length: 2", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 1|Transfer-Encoding: chunked", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, gzip", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked", 501),
    ],
)
def test_no_http(lines: str, status: int) -> None:
    with pytest.raises(Malformed) as raised:
        parse(lines.replace("|", "\r\n").encode() + b"\r\n\r\n")
    assert raised.value.status == status


def test_a_head_has_its_limit() -> None:
    for lines in ([b"X: " + b"a" * MAX_HEAD], [b"X%d: y" % number for number in range(MAX_HEAD // 8)]):
        with pytest.raises(Malformed) as raised:
            read(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
        assert raised.value.status == 431


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("1.1", "", True),
        ("1.1", "close", False),
        ("1.1", "Keep-Alive, X", True),
        ("1.0", "", False),
        ("1.0", "keep-alive", True),
    ],
)
def test_whether_the_client_goes_on(version: str, connection: str, keeps: bool) -> None:
    line = f"Connection: {connection}\r\n" if connection else ""
    for length in (0, 5):
        head = parse(f"POST / HTTP/{version}\r\nHost: a\r\n{line}Content-Length: {length}\r\n\r\n".encode())
        assert (head.keeps_alive, head.length) == (keeps, length)


def test_names_are_lowercase_and_values_bare() -> None:
    head = parse(b"GET /a%20b?c HTTP/1.1\r\nhOsT:d\r\nX-Long-Name: \t a b \t \r\nEmpty:\r\n\r\n")
    assert head.headers == {b"host": b"d", b"x-long-name": b"a b", b"empty": b""}
    assert head.target == b"/a%20b?c"


@pytest.mark.parametrize(
    "body",
    ["x\r\n", "5\r\nabcdeXX\r\n", "\r\n", "fffffffffffffffff\r\n", "-1\r\n", "1;LONG", "0x1\r\na\r\n0\r\n\r\n"],
)
def test_wrong_chunks(body: str) -> None:
    body = body.replace("LONG", "a" * 5000)
    with pytest.raises(InvalidArgument, match="malformed request body"):
        read(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body.encode() + b"\r\n" * 3000)


@pytest.mark.parametrize("body", ["5\r\nab", "5", "5\r\nabcde", "0\r\n", "0\r\nA: b\r\n"])
def test_a_body_that_breaks_off(body: str) -> None:
    with pytest.raises(ClientGone):
        read(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body.encode())
    with pytest.raises(ClientGone):
        read(POST + b"Content-Length: 100\r\n\r\n" + body.encode())


def test_a_client_that_waits_is_told_to_go_on_once() -> None:
    head = POST + b"Content-Length: 4\r\nExpect: 100-Continue\r\n\r\n"
    found, answered = read(head, b"ab", b"cd", head + b"abcd")
    assert [body for _, body in found] == [b"abcd", b"abcd"]
    assert answered == CONTINUE


def test_a_client_is_not_told_to_go_on_after_an_answer() -> None:
    async def run() -> None:
        wire = Wire([POST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n", b"abcd"])
        incoming = Incoming(wire)
        await incoming.head()
        assert incoming.awaits_continue
        incoming.answered()
        assert incoming.awaits_continue and await whole(incoming) == b"abcd"
        assert not wire.sent and not incoming.awaits_continue

    anyio.run(run)


def test_what_follows_a_request_is_left_for_whoever_takes_over() -> None:
    async def run() -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n"
        incoming = Incoming(Wire([head + b"{}\x00\x01GET "]))
        await incoming.head()
        assert await whole(incoming) == b"{}"
        assert incoming.rest() == b"\x00\x01GET " and incoming.rest() == b""

    anyio.run(run)
