"""POST /build, build sessions, pruning: the front-end over its socket, before an engine in memory."""

from __future__ import annotations

import base64
import fcntl
import json
import socket
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import docker.errors
import pytest

import support
from api_docker_fake import IMAGE_ID, Served, read_to_end, served
from hooper.api.build_events import Exported, Planned, PlannedStep, Pulling, StepFailed, StepOutput, StepStarted
from hooper.api.errors import HooperError
from hooper.api.errors import StepFailed as Failure
from hooper_api_docker import build_sessions

SESSION = "0123456789abcdef" * 2
PATH = f"/hooper/builds/sessions/{SESSION}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


def lines(data: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()] if isinstance(data, bytes) else [data]


def build(
    server: Served, query: str = "", body: bytes = b"context", **headers: str
) -> tuple[int, list[dict[str, Any]]]:
    status, _, data = server.request("POST", f"/build?{query}", body, headers)
    return status, lines(data)


def text(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("stream", "") for message in messages)


def upgrade(server: Served, path: str) -> socket.socket:
    """The raw stream that a request was answered with."""
    sock = server.connect()
    sock.sendall(f"POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return sock


# --- the stream ---------------------------------------------------------------------------------------


def test_a_build_gets_its_context_and_tells_its_steps(server: Served) -> None:
    status, found = build(server, "t=a/b&t=c:1&dockerfile=D&nocache=1")
    assert status == 200
    assert text(found) == (
        f"Step 1/2 : FROM scratch\n ---> aaaaaaaaaaaa\nStep 2/2 : RUN make\n"
        f" ---> Running in {text(found).partition('Running in ')[2][:12]}\nmade\n"
        f"Removing intermediate container {text(found).partition('Running in ')[2][:12]}\n ---> bbbbbbbbbbbb\n"
        "Successfully built 111111111111\nSuccessfully tagged a/b:latest\nSuccessfully tagged c:1\n"
    )
    assert {"aux": {"ID": IMAGE_ID}} in found
    request = server.engine.builds.requests[0]
    assert request.tags == ["a/b:latest", "c:1"] and request.recipe == "D" and request.no_cache
    assert server.engine.builds.context == b"context"


def test_a_quiet_build_tells_the_id_or_everything(server: Served) -> None:
    assert build(server, "q=1") == (200, [{"stream": IMAGE_ID + "\n"}])

    async def fail(request: Any, progress: Any, session: Any) -> None:
        await progress.event(Planned(steps=(PlannedStep(shown="RUN false", stage="0"),)))
        await progress.event(StepOutput(step=0, stream=2, data=b"why\n", at=0))
        await progress.event(StepFailed(step=0, at=0, error="no", exit_code=3))
        raise Failure("The command '/bin/sh -c false' returned a non-zero code: 3", exit_code=3)

    server.engine.builds.work = fail
    status, found = build(server, "q=1")
    assert status == 200 and text(found).startswith("Step 1/1 : RUN false\n ---> Running in ")
    assert text(found).endswith("why\n")
    message = "The command '/bin/sh -c false' returned a non-zero code: 3"
    assert found[-1] == {"errorDetail": {"code": 3, "message": message}, "error": message}


def test_a_build_that_fails_before_it_says_anything_is_an_answer(server: Served) -> None:
    async def fail(*_: Any) -> None:
        raise HooperError("Dockerfile:1: no such instruction: FORM", "", "Did you mean FROM?")

    server.engine.builds.work = fail
    for query in ("", "q=1"):
        status, found = build(server, query)
        assert status == 500 and found[0]["message"].startswith("Dockerfile:1")
    assert build(server, "progress=events")[1][-1]["error"].startswith("Dockerfile:1")
    status, found = build(server, "", b"broken")
    assert status == 400 and "it is no tar" in found[0]["message"]


def test_events_come_as_they_are(server: Served) -> None:
    async def work(request: Any, progress: Any, session: Any) -> None:
        await progress.event(Pulling(message={"status": "x"}))
        await progress.event(StepOutput(step=0, stream=1, data=b"\xff", at=5))
        await progress.event(Exported(type="image", names=("a:1",)))

    server.engine.builds.work = work
    context, *found = build(server, "progress=events")[1]
    assert context["hooper"].pop("began") <= context["hooper"].pop("at")
    assert context == {"hooper": {"type": "context", "files": 1, "size": 7, "sent": 7}}
    assert found == [
        {"hooper": {"type": "pull", "message": {"status": "x"}}},
        {"hooper": {"type": "output", "step": 0, "stream": 1, "data": base64.b64encode(b"\xff").decode(), "at": 5}},
        {"hooper": {"type": "exported", "output": "image", "names": ["a:1"]}},
        {"aux": {"ID": IMAGE_ID}},
    ]


def test_a_flood_of_output_is_few_lines(server: Served) -> None:
    async def work(request: Any, progress: Any, session: Any) -> None:
        await progress.event(Planned(steps=(PlannedStep(shown="RUN yes", stage="0"),)))
        await progress.event(StepStarted(step=0, at=0))
        for number in range(20_000):
            await progress.event(StepOutput(step=0, stream=1, data=b"%06d\n" % number, at=0))
            await progress.event(StepOutput(step=1, stream=1, data=b"", at=0))

    server.engine.builds.work = work
    found = [line["hooper"] for line in build(server, "progress=events")[1] if "hooper" in line]
    output = b"".join(base64.b64decode(one["data"]) for one in found if one["type"] == "output")
    assert output == b"".join(b"%06d\n" % number for number in range(20_000))
    assert len(found) < 1000


def test_a_check_tells_the_doubtful_places(server: Served) -> None:
    own = "hooper=" + quote('{"check":true}')
    assert text(build(server, own)[1]) == "[Warning] StageNameCasing: write it small (Dockerfile:2)\n"
    assert build(server, own + "&progress=events&q=1")[1][1:] == [
        {
            "hooper": {
                "type": "warning", "rule": "StageNameCasing", "message": "write it small", "url": "",
                "origin": {"file": "Dockerfile", "first": 2, "last": 2, "text": ""},
            }
        }
    ]  # fmt: skip
    assert server.engine.builds.requests == []


def test_a_remote_context_is_the_engines(server: Served) -> None:
    assert build(server, "remote=https%3A%2F%2Fexample.org%2Fa.git%23main", b"")[0] == 200
    assert server.engine.builds.urls == ["https://example.org/a.git#main"]


def test_a_wrong_parameter_is_told_before_the_body_is_read(server: Served) -> None:
    with server.connect() as sock:
        sock.sendall(b"POST /build?memory=x HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
        answer = sock.recv(65536)
        assert b" 400 " in answer and b"invalid parameter memory=x" in answer
        # The rest of the upload is passed over, and the connection goes on.
        sock.sendall(b"3\r\nfgh\r\n0\r\n\r\nGET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        assert read_to_end(sock).endswith(b"OK")
    assert build(server, "version=2")[0] == 501 and build(server, "session=1")[0] == 400
    status, found = build(server, f"session={SESSION}")
    assert status == 404 and SESSION in found[0]["message"]
    for path in ("/session", "/grpc"):
        status, _, body = server.request("POST", path)
        assert status == 501 and "DOCKER_BUILDKIT=0" in body["message"]


# --- the end before the end ---------------------------------------------------------------------------


def test_a_client_that_goes_cancels_its_build(server: Served) -> None:
    with server.connect() as sock:
        sock.sendall(b"POST /build?target=endless HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\n\r\nx")
        assert server.engine.builds.began.wait(20)
        assert not server.engine.builds.cancelled.is_set()
    assert server.engine.builds.cancelled.wait(20)


def test_a_client_that_goes_in_its_upload_leaves_no_build(server: Served) -> None:
    with server.connect() as sock:
        sock.sendall(b"POST /build HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\nhalf")
    assert build(server)[0] == 200
    assert len(server.engine.builds.requests) == 1 and server.context.log.errors == []


def test_a_build_is_cancelled_by_its_id(server: Served) -> None:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(build(server, "target=endless&buildid=b%2F1")))
    thread.start()
    assert server.engine.builds.began.wait(20)
    assert server.request("POST", "/build/cancel?id=another")[0] == 200
    assert not server.engine.builds.cancelled.is_set()
    assert server.request("POST", "/build/cancel?id=b%2F1")[0] == 200
    thread.join(20)
    status, found = answers[0]
    assert (status, "cancelled" in found[-1]["error"]) == (200, True) and text(found).startswith("Step 1/1")
    assert server.engine.builds.cancelled.is_set()
    assert server.request("POST", "/build/cancel")[0] == 400


def test_a_cancelled_build_of_a_client_that_does_not_read_breaks_off(server: Served) -> None:
    async def work(request: Any, progress: Any, session: Any) -> None:
        await progress.event(Planned(steps=(PlannedStep(shown="RUN yes", stage="0"),)))
        while True:
            await progress.event(StepOutput(step=0, stream=1, data=b"y\n" * 50_000, at=0))
            server.engine.builds.began.set()

    server.engine.builds.work = work
    with server.connect() as sock:
        sock.sendall(b"POST /build?buildid=s HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\n\r\nx")
        assert server.engine.builds.began.wait(20)
        support.until(lambda: not _grows(sock), what="a full socket")
        assert server.request("POST", "/build/cancel?id=s")[0] == 200
        # No end of a stream that was torn: the client cannot take it for a whole one.
        assert not read_to_end(sock).endswith(b"0\r\n\r\n")


def _grows(sock: socket.socket) -> bool:
    """Whether more arrives, unread, within a moment."""

    def arrived() -> int:
        return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder)

    before = arrived()
    time.sleep(0.2)
    return arrived() != before


def test_an_upload_is_cancelled_by_the_builds_id(server: Served) -> None:
    with server.connect() as sock:
        sock.sendall(b"POST /build?buildid=u HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\nhalf")
        answer = b""

        def answered() -> bool:
            """Cancels again, as the build may not have begun at the first time."""
            nonlocal answer
            server.request("POST", "/build/cancel?id=u")
            with suppress(TimeoutError):
                answer = sock.recv(65536)
            return bool(answer)

        sock.settimeout(0.1)
        support.until(answered, what="the answer to a cancelled upload")
        assert answer.startswith(b"HTTP/1.1 409 ") and b"the build was cancelled" in answer
    assert server.engine.builds.requests == []


# --- sessions -----------------------------------------------------------------------------------------


@contextmanager
def session(server: Served) -> Iterator[Any]:
    """The lines of a control connection."""
    with upgrade(server, PATH) as control, control.makefile("rb") as told:
        yield told


def building(server: Served, query: str = "") -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(build(server, f"session={SESSION}&{query}")))
    thread.start()
    return thread, answers


def asks(server: Served, *wanted: tuple[str, str]) -> list[Any]:
    """What a build that asks for these streams, one after the other, gets of them."""
    got: list[Any] = []

    async def work(request: Any, progress: Any, of: Any) -> None:
        for kind, name in wanted:
            try:
                with await of.open(kind, name, {"k": "v"}) as stream:
                    stream.setblocking(True)
                    got.append(stream.recv(100))
            except HooperError as error:
                got.append(error)

    server.engine.builds.work = work
    return got


def test_a_session_serves_the_context_and_what_a_build_asks_for(server: Served) -> None:
    got = asks(server, ("secret", "token"), ("secret", "none"))
    with session(server) as told:
        thread, answers = building(server, "remote=hooper-session")
        assert json.loads(told.readline()) == {"stream": 1, "kind": "context", "name": "", "parameters": {}}
        with upgrade(server, f"/v1.50{PATH}/streams/1") as stream:
            stream.sendall(b"files")
        line = json.loads(told.readline())
        assert line == {"stream": 2, "kind": "secret", "name": "token", "parameters": {"k": "v"}}
        with upgrade(server, f"{PATH}/streams/2") as stream:
            stream.sendall(b"s3cret")
        assert json.loads(told.readline())["name"] == "none"
        assert server.request("POST", f"{PATH}/streams/3/refuse", {"message": "not on this host"})[0] == 204
        thread.join(20)
        assert answers[0][0] == 200
        # Each stream is answered once.
        for number in (1, 2, 3, 4):
            assert server.request("POST", f"{PATH}/streams/{number}")[0] == 404
            assert server.request("POST", f"{PATH}/streams/{number}/refuse", {})[0] == 404
        assert server.request("POST", f"{PATH}/streams/x")[0] == 400
        assert server.request("POST", PATH)[0] == 409
    assert server.engine.builds.context == b"files"
    assert got[0] == b"s3cret" and (got[1].kind, str(got[1])) == ("not-found", 'secret "none": not on this host')


def test_a_session_ends_with_its_control_connection(server: Served) -> None:
    got = asks(server, ("secret", "a"), ("secret", "b"))
    with session(server) as told:
        thread, _ = building(server)
        told.readline()
    thread.join(20)
    assert [(error.kind, error.why) for error in got] == [("unavailable", "the client is gone")] * 2
    support.until(lambda: server.request("POST", f"{PATH}/streams/1")[0] == 404)
    with session(server):
        pass


def test_a_client_that_does_not_answer_is_not_waited_for(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_sessions, "DIAL_SECONDS", 0.05)
    got = asks(server, ("ssh", "default"))
    with session(server) as told:
        thread, _ = building(server)
        thread.join(20)
        assert got[0].kind == "unavailable" and "has not sent it" in str(got[0])
        assert json.loads(told.readline())["stream"] == 1
        assert server.request("POST", f"{PATH}/streams/1")[0] == 404


def test_a_stream_of_a_cancelled_build_is_not_there(server: Served) -> None:
    asks(server, ("ssh", "default"))
    with session(server) as told:
        thread, answers = building(server, "buildid=c")
        told.readline()
        server.request("POST", "/build/cancel?id=c")
        thread.join(20)
        assert answers[0][0] == 409
        assert server.request("POST", f"{PATH}/streams/1")[0] == 404


def test_a_client_that_speaks_first_is_refused(server: Served) -> None:
    got = asks(server, ("secret", "a"))
    with session(server) as told:
        thread, _ = building(server)
        told.readline()
        with server.connect() as sock:
            sock.sendall(f"POST {PATH}/streams/1 HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\n\r\nsecret".encode())
            read_to_end(sock)
        thread.join(20)
    assert got[0].kind == "not-found" and "before" in str(got[0])


def test_many_streams_wait_for_their_turn(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_sessions, "MAX_WAITING", 2)
    import anyio

    got: list[bytes] = []

    async def work(request: Any, progress: Any, of: Any) -> None:
        async def one(name: str) -> None:
            with await of.open("secret", name) as stream:
                await anyio.wait_readable(stream)
                got.append(stream.recv(100))

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, str(number))

    server.engine.builds.work = work
    with session(server) as told:
        thread, _ = building(server)
        waiting = [json.loads(told.readline()) for _ in range(2)]
        assert server.request("POST", f"{PATH}/streams/3")[0] == 404
        for _ in range(6):
            wanted = waiting.pop(0)
            with upgrade(server, f"{PATH}/streams/{wanted['stream']}") as stream:
                stream.sendall(wanted["name"].encode())
            if wanted["stream"] < 5:
                waiting.append(json.loads(told.readline()))
        thread.join(20)
    assert sorted(got) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_sessions_have_random_ids_and_a_limit(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("short", SESSION.upper(), SESSION + "0", "g" * 32):
        assert server.request("POST", f"/hooper/builds/sessions/{name}")[0] == 400
        assert server.request("POST", f"/hooper/builds/sessions/{name}/streams/1")[0] == 400
    monkeypatch.setattr(build_sessions, "MAX_SESSIONS", 1)
    with session(server):
        assert server.request("POST", f"/hooper/builds/sessions/{'f' * 32}")[0] == 503


# --- the cache ----------------------------------------------------------------------------------------


def test_prune_takes_bounds_and_filters(server: Served) -> None:
    filters = quote(json.dumps({"until": {"24h": True}, "id": ["k"], "inuse": {}, "label": ["a"]}))
    status, _, body = server.request(
        "POST",
        f"/build/prune?all=1&reserved-space=5&keep-storage=9&max-used-space=6&min-free-space=7&filters={filters}",
    )
    assert (status, body) == (200, {"CachesDeleted": ["k1"], "SpaceReclaimed": 7})
    assert server.engine.builds.prunes[0] == (
        {"until": ["24h"], "id": ["k"], "inuse": [""]}, {"all": True, "keep": 5, "max_used": 6, "min_free": 7},
    )  # fmt: skip
    server.request("POST", "/v1.47/build/prune?reserved-space=5&keep-storage=9")
    assert server.engine.builds.prunes[1] == ({}, {"all": False, "keep": 9, "max_used": 0, "min_free": 0})
    wrong = ['filters={"x":["y"]}', 'filters={"until":["1h","2h"]}', 'filters={"until":["1h"],"unused-for":["1h"]}',
             "keep-storage=1g", "min-free-space=-1"]  # fmt: skip
    for query in wrong:
        assert server.request("POST", "/build/prune?" + quote(query, safe="="))[0] == 400, query
    assert len(server.engine.builds.prunes) == 2


def test_disk_usage_shows_what_builds_keep(server: Served) -> None:
    common = {
        "ID": "k2", "Type": "exec.cachemount", "Description": "RUN make", "InUse": True, "Shared": False, "Size": 3,
        "CreatedAt": "2026-01-02T03:04:05Z", "LastUsedAt": None, "UsageCount": 4,
    }  # fmt: skip
    assert server.request("GET", "/system/df")[2]["BuildCache"] == [{**common, "Parents": ["k1", "k0"]}]
    assert server.request("GET", "/v1.41/system/df")[2]["BuildCache"] == [{**common, "Parent": "k1"}]


# --- docker-py ----------------------------------------------------------------------------------------


def test_docker_py_finds_its_image_and_its_errors(server: Served, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\n")
    with closing(docker.DockerClient(base_url=server.url, timeout=20)) as client:
        image, log = client.images.build(
            path=str(tmp_path / "context"), tag="app", buildargs={"A": "1"}, extra_hosts={"a": "10.0.0.1"}, rm=True,
            container_limits={"memory": 67108864}, gzip=False, labels={"l": "v"}, cache_from=["c:1"], shmsize=1024,
        )  # fmt: skip
        assert image.id == IMAGE_ID and {"stream": "Step 1/2 : FROM scratch\n"} in list(log)
        request = server.engine.builds.requests[0]
        assert request.extra_hosts == ["a:10.0.0.1"] and request.memory == 67108864 and request.build_args == {"A": "1"}
        with pytest.raises(docker.errors.APIError, match="platform"):
            client.images.build(path=str(tmp_path / "context"), platform="a/b/c/d")
        assert client.api.prune_builds(filters={"until": "1h"}, keep_storage=3, all=True)["SpaceReclaimed"] == 7
        assert server.engine.builds.prunes == [
            ({"until": ["1h"]}, {"all": True, "keep": 3, "max_used": 0, "min_free": 0})
        ]
