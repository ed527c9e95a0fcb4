"""Attached clients over the Engine API: raw, framed, through a WebSocket, several at once, half closed, detached."""

from __future__ import annotations

import socket
from urllib.parse import urlencode

import pytest
from lookin_support import (
    WebSocket,
    connect,
    create,
    frames,
    hijacked,
    of,
    read_head,
    read_to_end,
    read_until,
    run,
    start,
    wait,
)
from wsproto.events import BytesMessage, TextMessage

import support
from support import Engine

pytestmark = pytest.mark.root

CAT = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
ALL = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
OUT = {"stream": 1, "stdout": 1, "stderr": 1}


def logged(engine: Engine, name: str) -> bytes:
    return engine.request("GET", f"/containers/{name}/logs?stdout=1&stderr=1")[1].encode()


def test_output_comes_in_frames_and_a_half_close_ends_stdin(either: Engine) -> None:
    create(either, "half", ["sh", "-c", "cat; echo err >&2; exit 3"], **CAT)
    with hijacked(either, "/containers/half/attach", **ALL) as sock:
        start(either, "half")
        sock.sendall(b"one\ntwo\n")
        sock.shutdown(socket.SHUT_WR)
        data = read_to_end(sock)
    assert of(1, data) == b"one\ntwo\n" and of(2, data) == b"err\n"
    assert wait(either, "half") == 3


def test_a_client_that_starts_what_it_attaches_to_misses_nothing(either: Engine) -> None:
    """It may send its start before it has read that it is attached."""
    create(either, "early", ["echo", "first"])
    with connect(either) as sock:
        path = f"/containers/early/attach?{urlencode(OUT)}"
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
        assert sock.recv(1, socket.MSG_PEEK)
        start(either, "early")
        assert " 101 " in read_head(sock)
        assert of(1, read_to_end(sock)) == b"first\n"


def test_each_of_several_clients_sees_all_output(either: Engine) -> None:
    create(either, "many", ["sh", "-c", "for i in 1 2 3; do echo $i; done"])
    with (
        hijacked(either, "/containers/many/attach", **OUT) as first,
        hijacked(either, "/containers/many/attach", **OUT) as second,
        hijacked(either, "/containers/many/attach", stream=1, stderr=1) as third,
    ):
        start(either, "many")
        assert of(1, read_to_end(first)) == of(1, read_to_end(second)) == b"1\n2\n3\n"
        assert read_to_end(third) == b""


def test_two_clients_write_to_one_stdin(either: Engine) -> None:
    run(either, "shared", ["sh", "-c", "read a; read b; echo $a $b"], OpenStdin=True)
    with (
        hijacked(either, "/containers/shared/attach", **ALL) as first,
        hijacked(either, "/containers/shared/attach", stream=1, stdin=1) as second,
    ):
        first.sendall(b"x\n")
        second.sendall(b"x\n")
        assert of(1, read_to_end(first)) == b"x x\n"


def test_logs_come_before_the_stream(either: Engine) -> None:
    run(either, "past", ["sh", "-c", "echo before; read line; echo after $line"], OpenStdin=True)
    support.until(lambda: b"before" in logged(either, "past"), what="the log")
    with hijacked(either, "/containers/past/attach", logs=1, **ALL) as sock:
        sock.sendall(b"x\n")
        assert of(1, read_to_end(sock)) == b"before\nafter x\n"


def test_logs_alone_end_at_once(either: Engine) -> None:
    run(either, "alone", ["sh", "-c", "echo out; echo err >&2; sleep 60"])
    support.until(lambda: b"err" in logged(either, "alone"), what="the log")
    with hijacked(either, "/containers/alone/attach", logs=1, stdout=1, stderr=1) as sock:
        assert sorted(frames(read_to_end(sock))) == [(1, b"out\n"), (2, b"err\n")]


def test_a_tty_is_raw(either: Engine) -> None:
    create(either, "tty", ["sh", "-c", "read a; echo got $a"], Tty=True, OpenStdin=True)
    with hijacked(either, "/containers/tty/attach", **ALL) as sock:
        start(either, "tty")
        sock.sendall(b"abc\n")
        assert read_to_end(sock).replace(b"\r\n", b"\n").endswith(b"got abc\n")


@pytest.mark.parametrize(("keys", "typed"), [("", b"\x10\x11"), ("ctrl-a,x", b"\x01x")])
def test_detach_keys_let_go_and_the_container_goes_on(either: Engine, keys: str, typed: bytes) -> None:
    run(either, "keys", ["cat"], Tty=True, OpenStdin=True)
    query = {**ALL, **({"detachKeys": keys} if keys else {})}
    with hijacked(either, "/containers/keys/attach", **query) as sock:
        sock.sendall(b"hello\n")
        read_until(sock, b"hello\r\nhello\r\n")
        sock.sendall(typed)
        read_to_end(sock)
    assert either.inspect("keys")["State"]["Running"]
    with hijacked(either, "/containers/keys/attach", **ALL) as again:
        again.sendall(b"more\n")
        read_until(again, b"more\r\n")


def test_wrong_detach_keys_are_refused(either: Engine) -> None:
    create(either, "wrong", ["cat"], Tty=True, OpenStdin=True)
    status, answer = either.request("POST", "/containers/wrong/attach?stream=1&stdout=1&detachKeys=ctrl-1")
    assert status == 400 and "detach keys" in str(answer)


def test_attach_to_one_that_has_ended_waits_for_its_next_start(either: Engine) -> None:
    run(either, "again", ["echo", "x"])
    assert wait(either, "again") == 0
    with hijacked(either, "/containers/again/attach", **OUT) as sock:
        start(either, "again")
        assert of(1, read_to_end(sock)) == b"x\n"


def test_attach_is_refused_to_what_is_paused_or_absent(either: Engine) -> None:
    run(either, "frozen", ["sleep", "60"])
    assert either.request("POST", "/containers/frozen/pause")[0] == 204
    status, answer = either.request("POST", "/containers/frozen/attach?stream=1&stdout=1")
    assert status == 409 and "paused" in str(answer)
    assert either.request("POST", "/containers/frozen/unpause")[0] == 204
    assert either.request("POST", "/containers/nosuch/attach?stream=1&stdout=1")[0] == 404


def test_resize_reaches_the_terminal(either: Engine) -> None:
    run(either, "sized", ["sh", "-c", "read x; stty size"], Tty=True, OpenStdin=True)
    with hijacked(either, "/containers/sized/attach", **ALL) as sock:
        assert either.request("POST", "/containers/sized/resize?h=33&w=77")[0] == 200
        sock.sendall(b"\n")
        assert b"33 77" in read_to_end(sock)
    assert either.request("POST", "/containers/sized/resize?h=x&w=1")[0] == 400


# WebSocket


def test_a_websocket_carries_stdin_and_output(either: Engine) -> None:
    create(either, "web", ["sh", "-c", "cat; echo err >&2"], **CAT)
    web = WebSocket(either, "/v1.41/containers/web/attach/ws", ALL)
    assert web.head.startswith("HTTP/1.1 101 ") and "sec-websocket-accept:" in web.head.lower()
    start(either, "web")
    web.send(b"some text\n")
    assert web.read(b"some text\n") == b"some text\n"
    assert web.kinds == {BytesMessage}
    web.close()


def test_a_websocket_ends_with_its_container(either: Engine) -> None:
    create(either, "ends", ["sh", "-c", "echo out; echo err >&2"])
    web = WebSocket(either, "/v1.41/containers/ends/attach/ws", OUT)
    start(either, "ends")
    assert sorted(web.read().split()) == [b"err", b"out"]


def test_a_websocket_of_old_sends_text_and_a_terminal_is_raw(either: Engine) -> None:
    run(either, "oldws", ["sh", "-c", "read a; echo got $a; sleep 60"], Tty=True, OpenStdin=True)
    web = WebSocket(either, "/v1.27/containers/oldws/attach/ws", ALL)
    web.send(b"z\n")
    assert web.read(b"got z").endswith(b"got z\r\n")
    assert web.kinds == {TextMessage}
    web.close()
    assert either.inspect("oldws")["State"]["Running"]


def test_a_websocket_shows_the_log_first(either: Engine) -> None:
    run(either, "wslog", ["sh", "-c", "echo before; sleep 60"])
    support.until(lambda: b"before" in logged(either, "wslog"), what="the log")
    web = WebSocket(either, "/containers/wslog/attach/ws", {"logs": 1, **OUT})
    assert web.read(b"before\n") == b"before\n"
    web.close()


def test_what_is_no_websocket_handshake_is_refused(either: Engine) -> None:
    create(either, "plain", ["true"])
    assert either.request("GET", "/containers/plain/attach/ws?stream=1&stdout=1")[0] == 400
    assert either.request("GET", "/containers/nosuch/attach/ws?stream=1")[0] in (400, 404)
