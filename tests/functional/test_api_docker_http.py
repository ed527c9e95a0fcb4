"""The front-end over its socket: the protocol, hijacked connections, streams, errors."""

from __future__ import annotations

import json
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_docker_fake import Served, read_to_end, served

ATTACH = b"POST /containers/%s/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\n%s\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


def make(server: Served, name: str = "one", **config: object) -> str:
    status, _, body = server.request("POST", f"/containers/create?name={name}", {"Image": "busybox", **config})
    assert status == 201
    return str(body["Id"])


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        size = int.from_bytes(data[4:8], "big")
        found.append((data[0], data[8 : 8 + size]))
        data = data[8 + size :]
    return found


def lines(data: bytes | object) -> list[object]:
    if not isinstance(data, bytes):
        return [data]
    return [json.loads(line) for line in data.splitlines()]


def read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return head


# The protocol


def test_ping_says_what_clients_ask_for(server: Served) -> None:
    for method, body in (("GET", b"OK"), ("HEAD", b"")):
        status, headers, data = server.request(method, "/_ping")
        assert (status, data) == (200, body)
        assert headers["Api-Version"] == "1.50" and headers["Ostype"] == "linux"
        assert headers["Docker-Experimental"] == "false" and headers["Builder-Version"] == "1"
        assert headers["Server"] == "hooper/9.9 (linux)"


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("/v1.50/_ping", 200, None),
        ("/v1.24/_ping", 200, None),
        ("/v1.51/_ping", 400, "client version 1.51 is too new. Maximum supported API version is 1.50"),
        ("/v1.23/_ping", 400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade "
                              "your client to a newer version"),
        ("/nope", 404, "page not found"),
        ("/v1.40/containers/a/b/c", 404, "page not found"),
    ],
)  # fmt: skip
def test_versions_and_unknown_paths(server: Served, target: str, status: int, text: str | None) -> None:
    found, headers, body = server.request("GET", target)
    assert found == status
    if text:
        assert headers["Content-Type"] == "application/json" and body == {"message": text}


def test_requests_sent_in_advance_are_answered_in_order(server: Served) -> None:
    ping = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
    data = server.raw(
        ping + b"GET /nope HTTP/1.1\r\nHost: d\r\n\r\n" + ping.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    )
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"404", b"200"]


def test_a_chunked_body_after_100_continue(server: Served) -> None:
    body = b'{"Image": "busybox", "Cmd": ["a"]}'
    with server.connect() as sock:
        sock.sendall(
            b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert read_head(sock).startswith(b"HTTP/1.1 100 ")
        for part in (body[:9], body[9:]):
            sock.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        sock.sendall(b"0\r\n\r\n")
        assert read_to_end(sock).startswith(b"HTTP/1.1 201 ")
    assert server.engine.containers.requests[0].config.cmd == ["a"]


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + b"a" * (2 << 20) + b"\r\n\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /_ping HTTP/1.1\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_http_is_refused(server: Served, request_head: bytes, status: bytes) -> None:
    with server.connect() as sock:
        try:
            sock.sendall(request_head)
        except BrokenPipeError:
            pass
        assert sock.recv(12) == b"HTTP/1.1 " + status
    assert server.request("GET", "/_ping")[0] == 200


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"{bad", "application/json", "invalid JSON"),
        (b"", "application/json", "EOF"),
        (b'{"Image": 5}', "application/json", "$.Image"),
        (b'{"HostConfig": {"Binds": "x"}}', "application/json", "$.HostConfig.Binds"),
        (b"[]", "application/json", "invalid request body"),
        (b"{}", "text/plain", "Content-Type"),
    ],
)
def test_malformed_bodies_are_400(server: Served, body: bytes, kind: str, text: str) -> None:
    status, _, answer = server.request("POST", "/containers/create", body, {"Content-Type": kind})
    assert status == 400
    assert text in answer["message"]


def test_a_fault_of_a_handler_is_500_and_logged(server: Served) -> None:
    status, _, body = server.request("POST", "/containers/prune")
    assert (status, body) == (500, {"message": "RuntimeError: a fault in the engine"})
    assert server.context.log.errors[0][1]["path"] == "/containers/prune"
    assert server.request("GET", "/_ping")[0] == 200


def test_errors_have_their_status_and_remedy(server: Served) -> None:
    identifier = make(server)
    assert server.request("POST", f"/containers/{identifier}/start")[0] == 204
    status, headers, body = server.request("POST", f"/containers/{identifier}/start")
    assert (status, body, headers["Content-Type"]) == (304, b"", None)
    status, _, body = server.request("DELETE", "/containers/one")
    assert (status, body["message"]) == (409, "cannot remove container one: it is running\nStop it, or use force.")
    assert server.request("POST", "/containers/create", {"Image": "nope"})[2] == {"message": "No such image: nope"}


# The socket


def test_the_socket_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        assert stat.S_IMODE(running.path.stat().st_mode) == 0o660
    assert not running.path.exists()


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "hooper.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with served(tmp_path) as running:
        assert running.request("GET", "/_ping")[0] == 200
        with pytest.raises(BaseException, match="another daemon answers there"), served(tmp_path):
            pass
        assert running.request("GET", "/_ping")[0] == 200


# Hijacked connections


def test_attach_upgrades_with_the_head_alone(server: Served) -> None:
    make(server)
    with server.connect() as sock:
        sock.sendall(ATTACH % (b"one", UPGRADE))
        head = sock.recv(65536)
        assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n") and head.endswith(b"\r\n\r\n")
        assert b"Connection: Upgrade\r\nUpgrade: tcp\r\n" in head
        assert b"application/vnd.docker.multiplexed-stream" in head
        sock.sendall(b"hello")
        assert frames(sock.recv(13)) == [(1, b"HELLO")]
        sock.shutdown(socket.SHUT_WR)
        assert frames(read_to_end(sock)) == [(1, b"end")]


def test_what_follows_the_request_reaches_the_container(server: Served) -> None:
    make(server, Tty=True)
    with server.connect() as sock:
        sock.sendall(ATTACH % (b"one", UPGRADE) + b"early")
        assert b"application/vnd.docker.raw-stream" in read_head(sock)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == b"EARLYend"


def test_without_upgrade_the_raw_stream_follows_a_200(server: Served) -> None:
    make(server)
    with server.connect() as sock:
        sock.sendall(ATTACH % (b"one", b""))
        head = read_head(sock)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"Upgrade" not in head
        sock.shutdown(socket.SHUT_WR)
        assert frames(read_to_end(sock)) == [(1, b"end")]


def test_before_1_42_every_stream_is_raw(server: Served) -> None:
    make(server)
    with server.connect() as sock:
        sock.sendall((ATTACH % (b"one", UPGRADE)).replace(b"POST ", b"POST /v1.41"))
        assert b"application/vnd.docker.raw-stream" in read_head(sock)


def test_attach_to_nothing_is_404_and_the_connection_goes_on(server: Served) -> None:
    with server.connect() as sock:
        sock.sendall(ATTACH % (b"nope", UPGRADE))
        assert sock.recv(65536).startswith(b"HTTP/1.1 404 ")
        sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def start_exec(server: Served, command: str, **body: object) -> tuple[str, bytes]:
    _, _, created = server.request("POST", "/containers/one/exec", {"Cmd": [command], "AttachStdout": True})
    data = json.dumps(body).encode()
    with server.connect() as sock:
        head = b"POST /exec/%s/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n" % created["Id"].encode()
        sock.sendall(head + UPGRADE + b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        head = read_head(sock)
        if not head.startswith(b"HTTP/1.1 101"):
            return created["Id"], head
        sock.shutdown(socket.SHUT_WR)
        return created["Id"], read_to_end(sock)


def test_exec_streams_and_is_inspected(server: Served) -> None:
    make(server)
    server.request("POST", "/containers/one/start")
    identifier, data = start_exec(server, "cat", Detach=False, Tty=False, ConsoleSize=[24, 80])
    assert frames(data) == [(1, b"end")]
    shown = server.request("GET", f"/exec/{identifier}/json")[2]
    assert shown["ExitCode"] == 0 and shown["ProcessConfig"]["entrypoint"] == "cat"


def test_exec_that_cannot_start_says_so_in_the_stream(server: Served) -> None:
    make(server)
    server.request("POST", "/containers/one/start")
    identifier, data = start_exec(server, "nosuch", Detach=False)
    assert frames(data) == [(1, b'exec: exec: "nosuch": executable file not found in $PATH\r\n')]
    assert server.request("GET", f"/exec/{identifier}/json")[2]["ExitCode"] == 127
    assert start_exec(server, "nosuch", Detach=True)[1].startswith(b"HTTP/1.1 400 ")


def test_exec_in_a_stopped_container_is_409(server: Served) -> None:
    make(server)
    assert server.request("POST", "/containers/one/exec", {"Cmd": ["a"]})[0] == 409


# Waiting


def test_wait_answers_its_head_before_the_container_ends(server: Served) -> None:
    make(server)
    with server.connect() as sock:
        sock.sendall(b"POST /containers/one/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        assert read_head(sock).startswith(b"HTTP/1.1 200 ")
        server.request("POST", "/containers/one/kill")
        assert b'{"StatusCode":7}' in read_to_end(sock)


def test_a_client_that_goes_away_ends_its_wait(server: Served) -> None:
    make(server)
    with server.connect() as sock:
        sock.sendall(b"POST /containers/one/wait HTTP/1.1\r\nHost: d\r\n\r\n")
        read_head(sock)
    assert server.engine.containers.cancelled.wait(20)


# Streams


def test_pull_tells_progress_and_late_errors_in_band(server: Served) -> None:
    auth = "eyJ1c2VybmFtZSI6ICJ1IiwgInBhc3N3b3JkIjogInAifQ=="
    status, headers, data = server.request(
        "POST", "/images/create?fromImage=host:5000/a/b&tag=1", headers={"X-Registry-Auth": auth}
    )
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert lines(data)[1] == {"status": "Downloading", "id": "abc", "progressDetail": {"current": 1, "total": 2}}
    reference, options = server.engine.pulls[0]
    assert reference == "host:5000/a/b:1" and options["credentials"].username == "u" and not options["all_tags"]

    status, _, data = server.request("POST", "/images/create?fromImage=broken")
    text = "layer lost: the registry has it no more"
    assert status == 200 and lines(data)[-1] == {"errorDetail": {"message": text}, "error": text}
    assert server.engine.pulls[1][1]["all_tags"]
    status, _, body = server.request("POST", "/images/create?fromImage=nosuch&tag=1")
    assert (status, body) == (404, {"message": "manifest for nosuch:1 not found"})


def test_a_digest_may_come_as_tag(server: Served) -> None:
    digest = "sha256:" + "a" * 64
    server.request("POST", f"/images/create?fromImage=busybox&tag={digest}")
    assert server.engine.pulls[0][0] == f"busybox@{digest}"


def test_save_and_load_stream(server: Served) -> None:
    status, headers, data = server.request("GET", "/images/get?names=busybox&names=other")
    assert (status, headers["Content-Type"]) == (200, "application/x-tar")
    assert data == server.engine.archive
    assert server.request("GET", "/images/get?names=nosuch")[0] == 404
    status, _, data = server.request("POST", "/images/load", b"y" * 2_000_000)
    assert status == 200 and lines(data) == [{"stream": "Loaded image: busybox:latest\n"}]
    assert server.engine.images.loaded == [b"y" * 2_000_000]


def test_archives_of_paths(server: Served) -> None:
    make(server)
    target = "/containers/one/archive?path=/etc/passwd"
    status, headers, data = server.request("HEAD", target)
    assert (status, data) == (200, b"") and headers["X-Docker-Container-Path-Stat"].startswith("eyJ")
    assert server.request("GET", target)[2] == b"tar of /etc/passwd"
    assert server.request("GET", "/containers/one/archive?path=/x")[0] == 404
    assert server.request("PUT", "/containers/one/archive?path=/d", b"tar")[0] == 200
    assert server.engine.containers.written == [("/d", b"tar")]
    status, _, body = server.request("PUT", "/containers/one/archive?path=/refused", b"z" * 3_000_000)
    assert status == 404 and "/refused" in body["message"]


def test_logs_are_framed_and_stamped(server: Served) -> None:
    make(server)
    _, headers, data = server.request("GET", "/containers/one/logs?stdout=1&stderr=1&timestamps=1&tail=5")
    assert headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    assert frames(data)[0] == (1, b"2023-11-14T22:13:20.000000001Z one\n") and frames(data)[1][0] == 2
    assert server.engine.containers.requests[-1].tail == 5
    assert server.request("GET", "/containers/one/logs")[0] == 400


def test_events_are_filtered_and_end_at_until(server: Served) -> None:
    for filters in ('{"type":{"container":true}}', '{"type":["container"]}'):
        status, _, data = server.request("GET", f"/events?since=1&until=1000000001&filters={filters}")
        shown = lines(data)
        assert status == 200 and len(shown) == 1
        event = json.loads(data) if isinstance(data, bytes) else data
        assert (event["status"], event["id"], event["from"]) == ("start", "c1", "busybox")
        assert event["Actor"]["ID"] == "c1" and event["timeNano"] == 10**18


def test_a_client_that_goes_away_ends_its_events(server: Served) -> None:
    with server.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        read_head(sock)
    assert server.engine.events.ended.wait(20)


def test_stats_once(server: Served) -> None:
    make(server)
    body = server.request("GET", "/containers/one/stats?stream=0&one-shot=1")[2]
    body = json.loads(body) if isinstance(body, bytes) else body
    assert body["cpu_stats"]["cpu_usage"]["total_usage"] == 5 and body["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert body["memory_stats"]["limit"] == 100 and body["name"] == "/one"


def test_filters_in_both_forms(server: Served) -> None:
    for filters in ('{"label":{"a=b":true}}', '{"label":["a=b"]}'):
        assert server.request("GET", f"/containers/json?filters={filters}")[0] == 200
    assert server.engine.filters == [{"label": ["a=b"]}, {"label": ["a=b"]}]
    assert server.request("GET", "/containers/json?filters=xx")[0] == 400
