"""Where a name is asked for: mirrors, rewritten places, blocked ones, proxies; and names without a registry."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.abc
import pytest
from images_support import Host
from test_registry_http import LAYER, connected, fetched, push_blob, push_image
from test_registry_images import Pushed

from hooper.api.errors import Forbidden, InvalidArgument, NotFound, Unauthorized, Unavailable
from hooper.api.manifests import digest_of
from hooper.api.registry import Credentials, Descriptor
from hooper.engine.short_names import ShortNames
from hooper.testing.http_server import HttpServer, Request, Response
from hooper.testing.registry import Fault, Registry
from hooper_registry_http.config import HttpConfig
from hooper_registry_http.proxies import proxy_for
from hooper_registry_http.routes import routes

pytestmark = pytest.mark.anyio
DEAD = "127.0.0.1:9"


def gets(registry: Registry) -> list[str]:
    return [request.path for request in registry.requests if request.method == "GET" and request.path != "/v2/"]


async def test_mirrors_are_asked_in_order_and_never_pushed_to() -> None:
    async with Registry() as registry, Registry() as mirror:
        async with connected(mirror.host) as client:
            await push_image(client, "cache/team/app", "1")
        table = {registry.host: {"mirrors": [DEAD, f"http://{mirror.host}/cache"]}}
        async with connected(registry.host, registries=table) as client:
            digest = (await client.resolve("team/app", "1")).descriptor.digest
            assert await fetched(client, "team/app", LAYER) == LAYER
            assert gets(registry) == []
            assert await push_image(client, "team/other", "1") == digest
            assert (await client.resolve("team/other", "1")).descriptor.digest == digest
        assert "/v2/team/other/manifests/1" in gets(registry)
        assert not any("other" in r.path for r in mirror.requests if r.method not in ("GET", "HEAD"))


async def test_a_mirror_has_credentials_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("mirrored\n")
    async with (
        Registry(users={"ann": "secret"}) as registry,
        Registry(users={"bob": "mirrored"}, tokens=True) as mirror,
    ):
        async with connected(mirror.host, Credentials("bob", "mirrored")) as client:
            await push_image(client, "team/app", "1")
        table = {
            registry.host: {"mirrors": [mirror.host]},
            mirror.host: {"username": "bob", "password_file": str(tmp_path / "password")},
        }
        async with connected(registry.host, Credentials("ann", "secret"), registries=table) as client:
            assert await fetched(client, "team/app", LAYER) == LAYER
        secret = base64.b64encode(b"ann:secret").decode()
        assert not any(secret in request.headers.get("authorization", "") for request in mirror.requests)
        assert gets(registry) == []


async def test_a_mirror_that_lies_or_breaks_off_is_left(tmp_path: Path) -> None:
    pushed = Pushed()
    async with Registry(tmp_path / "registry") as registry, Registry(tmp_path / "mirror") as mirror:
        for each in (registry, mirror):
            await pushed.push(each.host, "app", "1")
        bad = tmp_path / "mirror" / "blobs" / digest_of(pushed.packed[0])[7:]
        bad.write_bytes(bytes(len(pushed.packed[0])))
        mirror.faults += [Fault("GET", digest_of(pushed.packed[2]), cut_after=10, times=9)]
        host = Host(tmp_path / "host", registries={registry.host: {"mirrors": [mirror.host]}})
        assert await host.images.pull(f"{registry.host}/app:1", host.sink) == pushed.id
        wanted = [f"/v2/app/blobs/{digest_of(blob)}" for blob in (pushed.packed[0], pushed.packed[2])]
        assert sorted(path for path in gets(registry) if "/blobs/" in path) == sorted(wanted)


async def test_dead_mirrors_are_named_when_all_fails() -> None:
    table = {DEAD: {"mirrors": ["127.0.0.1:10"]}}
    async with connected(DEAD, registries=table, retries=0) as client:
        with pytest.raises(Unavailable, match=r"cannot reach the registry 127\.0\.0\.1:10: connection refused"):
            await client.resolve("app", "1")


async def test_repositories_that_are_elsewhere() -> None:
    async with Registry() as other:
        rewrites = {"docker.io": f"{other.host}/hub", "docker.io/team": f"{other.host}/ours"}
        async with connected("docker.io", rewrites=rewrites) as client:
            await push_image(client, "team/app", "1")
            await push_image(client, "library/app", "1")
            assert await client.mount_blob("library/copy", digest_of(LAYER), "team/app")
        async with connected(other.host) as client:
            for name in ("ours/app", "hub/library/app"):
                assert (await client.resolve(name, "1")).content
            assert await client.has_blob("hub/library/copy", digest_of(LAYER))


@pytest.mark.parametrize(
    ("pattern", "name", "blocked"),
    [
        ("docker.io", "docker.io/library/app", True),
        ("docker.io/team", "docker.io/team/app", True),
        ("docker.io/team", "docker.io/teams/app", False),
        ("*.example.com", "a.example.com/app", True),
        ("*.example.com", "example.com/app", False),
        ("*/bad", "quay.io/bad/app", True),
        ("quay.io/*/secret", "quay.io/a/secret", True),
    ],
)
async def test_what_is_blocked(pattern: str, name: str, blocked: bool) -> None:
    config = HttpConfig(blocked={pattern: "we have our own"})
    host, _, repository = name.partition("/")
    if not blocked:
        assert len(routes(config, host, repository, mirrors=True)) == 1
        return
    with pytest.raises(Forbidden, match="is blocked: we have our own"):
        routes(config, host, repository, mirrors=True)


async def test_nothing_is_sent_to_what_is_blocked() -> None:
    async with Registry() as registry:
        async with connected(registry.host, blocked={registry.host: "no"}) as client:
            for refused in (
                client.resolve("app", "1"),
                push_blob(client, "app", LAYER),
                client.tags("app"),
                client.check_login(),
                client.search("app", 1),
            ):
                with pytest.raises(Forbidden, match="is blocked: no"):
                    await refused
        assert len(registry.requests) == 0


# --- proxies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "host", "proxy"),
    [
        ({}, "a.example", None),
        ({"https_proxy": "http://p:1"}, "a.example", "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "example"}, "a.example", ""),
        ({"https_proxy": "http://p:1", "no_proxy": ".b.example,*.a.example"}, "x.a.example", ""),
        ({"https_proxy": "http://p:1", "no_proxy": "b.example"}, "ab.example", "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "10.1.2.3:5000", ""),
        ({"https_proxy": "http://p:1"}, "127.0.0.1:5000", ""),
        ({"https_proxy": "http://p:1", "registries": {"a.example": {"proxy": "direct"}}}, "a.example", ""),
        ({"registries": {"a.example": {"proxy": "http://q:2"}}}, "a.example", "http://q:2"),
    ],
)
async def test_which_proxy(settings: dict[str, object], host: str, proxy: str | None) -> None:
    from msgspec import convert

    assert proxy_for(host, "https", convert(settings, HttpConfig)) == proxy


@contextlib.asynccontextmanager
async def forward_proxy(seen: list[str]) -> AsyncIterator[str]:
    """Passes on what is asked for in plain HTTP, whatever the name of the host."""
    async with Registry() as registry:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream, await anyio.connect_tcp(*registry.host.split(":")) as onward:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await stream.receive()
                method, url, rest = head.split(b" ", 2)
                host, _, path = url.removeprefix(b"http://").partition(b"/")
                seen.append(host.decode())
                await onward.send(b" ".join((method, b"/" + path, b"HTTP/1.0\r\n" + rest.partition(b"\r\n")[2])))
                with contextlib.suppress(anyio.EndOfStream):
                    while True:
                        await stream.send(await onward.receive())

        async with connected(registry.host) as client:
            await push_image(client, "team/app", "1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            yield f"http://127.0.0.1:{port}"
            group.cancel_scope.cancel()


async def test_a_registry_behind_a_proxy() -> None:
    seen: list[str] = []
    async with forward_proxy(seen) as proxy:
        table = {"registry.invalid:5000": {"insecure": True, "proxy": proxy}}
        async with connected("registry.invalid:5000", registries=table) as client:
            assert (await client.resolve("team/app", "1")).content
    assert set(seen) == {"registry.invalid:5000"}


# --- names without a registry, and search ---------------------------------------------------------------


async def test_short_names_are_looked_for_in_order(tmp_path: Path) -> None:
    pushed, other = Pushed(), Pushed(layers=[])
    host = Host(tmp_path / "host")
    async with Registry() as first, Registry(users={"ann": "secret"}) as closed, Registry() as last:
        await pushed.push(last.host, "team/app", "1")
        host.images.store.short_names = ShortNames([first.host, closed.host, f"{last.host}/team"])
        wrong = Credentials("hub", "password")
        assert await host.images.pull("app:1", host.sink, credentials=wrong) == pushed.id
        assert (await host.images.get("app:1")).tags == [f"{last.host}/team/app:1"]
        assert not any("authorization" in r.headers for each in (first, closed, last) for r in each.requests)
        with pytest.raises(NotFound, match="No such image: app:2"):
            await host.images.get("app:2")
        await other.push(first.host, "app", "1")
        assert await host.images.pull("app:1", host.sink) == other.id
        host.images.store.short_names = ShortNames([first.host, f"{last.host}/team"], "unique")
        with pytest.raises(InvalidArgument, match='the short name "app:1" is ambiguous: there are') as caught:
            await host.images.pull("app:1", host.sink)
        assert first.host in caught.value.why and last.host in caught.value.why
        with pytest.raises(NotFound, match='no registry has "nothing"'):
            await host.images.pull("nothing", host.sink)


async def test_a_registry_that_cannot_be_asked_hides_later_ones(tmp_path: Path) -> None:
    host = Host(tmp_path / "host", retries=0)
    async with Registry() as last:
        await Pushed().push(last.host, "app", "1")
        host.images.store.short_names = ShortNames([DEAD, last.host])
        with pytest.raises(Unavailable, match=f'"app:1" is ambiguous: {DEAD} comes first, and it cannot be asked'):
            await host.images.pull("app:1", host.sink)
        assert await host.images.pull(f"{last.host}/app:1", host.sink)


async def test_a_search_shows_credentials_to_their_own_registry_alone(tmp_path: Path) -> None:
    host, wrong = Host(tmp_path / "host"), Credentials("hub", "password")
    async with Registry(users={"ann": "secret"}) as first, Registry(users={"ann": "secret"}) as last:
        host.images.store.short_names = ShortNames([first.host, last.host])
        with pytest.raises(Unauthorized, match=f"search of {last.host} refused"):
            await host.images.search("app", credentials=wrong)
        assert first.requests and not any("authorization" in r.headers for r in (*first.requests, *last.requests))
        with pytest.raises(Unauthorized, match=f"search of {last.host} refused"):
            await host.images.search(f"{last.host}/app", credentials=wrong)
        assert any("authorization" in r.headers for r in last.requests)


async def test_search_as_docker_hub_has_it(tmp_path: Path) -> None:
    results = [
        {"name": "app", "description": "an app", "star_count": 7, "is_official": True, "is_automated": False},
        {"name": "me/app", "description": None, "star_count": 2},
    ]

    async def answer(request: Request) -> Response:
        assert (request.path, request.query["q"]) == ("/v1/search", "app")
        return Response(200, json.dumps({"results": results[: int(request.query["n"])]}).encode())

    server = HttpServer(answer)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    place = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    host = Host(tmp_path / "host", registries={place: {"insecure": True}})
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.serve)
        server.faults.append(Fault("GET", "/v2/", status=200, times=99))
        names = [one.name for one in await host.images.search(f"{place}/app")]
        assert names == [f"{place}/app", f"{place}/me/app"]
        [best] = await host.images.search(f"{place}/app", filters={"stars": ["3"]})
        assert (best.description, best.stars, best.official) == ("an app", 7, True)
        assert len(await host.images.search(f"{place}/app", filters={"is-official": ["false"]})) == 1
        assert len(await host.images.search(f"{place}/app", limit=1)) == 1
        with pytest.raises(InvalidArgument, match="outside the range"):
            await host.images.search(f"{place}/app", limit=101)
        with pytest.raises(InvalidArgument, match="invalid filter 'odd'"):
            await host.images.search(f"{place}/app", filters={"odd": ["1"]})
        group.cancel_scope.cancel()


# --- uploads --------------------------------------------------------------------------------------------


async def test_a_cut_upload_goes_on_where_it_broke_off() -> None:
    big = LAYER * 3
    async with Registry() as registry, connected(registry.host) as client:
        asked: list[int] = []

        async def read(offset: int) -> AsyncIterator[bytes]:
            asked.append(offset)
            for start in range(offset, len(big), 1 << 16):
                if len(asked) == 1 and start >= 1_500_000:
                    raise OSError("the disk is tired")
                yield big[start : start + (1 << 16)]

        await client.push_blob("app", Descriptor("x", digest_of(big), len(big)), read)
        assert asked[0] == 0 and len(asked) == 2 and 1_000_000 < asked[1] < 1_600_000
        assert await fetched(client, "app", big) == big


async def test_uploads_in_chunks() -> None:
    async with Registry() as registry, connected(registry.host, chunk=300_000) as client:
        await push_blob(client, "app", LAYER)
        patches = [r.headers["content-range"] for r in registry.requests if r.method == "PATCH"]
        assert patches == ["0-299999", "300000-599999", "600000-899999", f"900000-{len(LAYER) - 1}"]
        assert await fetched(client, "app", LAYER) == LAYER


async def test_an_upload_that_cannot_go_in_parts_goes_whole() -> None:
    big = LAYER * 2
    async with Registry() as registry, connected(registry.host) as client:
        registry.faults.append(Fault("PATCH", "/uploads/", status=405))
        await push_blob(client, "app", big)
        assert await fetched(client, "app", big) == big
