"""Connections to registries are kept for the next conversation, and nothing else of the last one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from images_support import Host

from hooper.api.errors import NotFound
from hooper.api.registry import Credentials

pytestmark = pytest.mark.anyio
ANN, BOB = Credentials("ann", "a"), Credentials("bob", "b")


class Asked:
    """The port that a request came from, and what it brought along."""

    def __init__(self, port: int, cookie: str | None, authorization: str | None) -> None:
        self.port, self.cookie, self.authorization = port, cookie, authorization


class Registry:
    """Knows nobody without a password, has no image, and sets a cookie with each answer."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                given = self.headers["Authorization"]
                asked.append(Asked(self.client_address[1], self.headers["Cookie"], given))
                self.send_response(404 if given else 401)
                self.send_header("Set-Cookie", f"sid={len(asked)}; Path=/")
                self.send_header("WWW-Authenticate", 'Basic realm="here"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


async def ask(host: Host, registry: Registry, credentials: Credentials) -> list[Asked]:
    """What a conversation of one question comes to."""
    before = len(registry.asked)
    driver = await host.images.registry_for(registry.host)
    async with driver.connect(registry.host, credentials) as client:
        with pytest.raises(NotFound):
            await client.resolve("app", "1")
    return registry.asked[before:]


async def test_a_connection_is_used_again_and_a_cookie_never(registry: Registry, tmp_path: Path) -> None:
    host = Host(tmp_path / "host")
    first, second = await ask(host, registry, ANN), await ask(host, registry, BOB)
    assert {each.port for each in second} == {first[-1].port}
    assert [each.cookie for each in (*first, *second)] == [None] * len((*first, *second))
    assert len({each.authorization for each in (first[-1], second[-1])}) == 2
    assert second[0].authorization is None


async def test_what_settled_a_registry_is_not_asked_again(registry: Registry, tmp_path: Path) -> None:
    host = Host(tmp_path / "host")
    assert len(await ask(host, registry, ANN)) == len(await ask(host, registry, ANN)) + 1
