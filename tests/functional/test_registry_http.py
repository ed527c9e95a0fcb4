"""The driver "http" against the in-process registry: credentials, retries, resumption, errors."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.abc
import msgspec
import pytest

from hooper.api.driver import DriverContext
from hooper.api.errors import DataLoss, NotFound, Unauthorized, Unavailable
from hooper.api.manifests import OCI_CONFIG, OCI_LAYER_TAR, OCI_MANIFEST, ImageManifest, digest_of, make_manifest
from hooper.api.registry import Credentials, Descriptor, RegistryClient
from hooper.testing.registry import Fault, Registry
from hooper_registry_http.config import HttpConfig, is_insecure
from hooper_registry_http.driver import HttpRegistry

pytestmark = pytest.mark.anyio
LAYER = bytes(range(256)) * 4096
CONFIG = b'{"architecture":"amd64","os":"linux"}'


@asynccontextmanager
async def connected(host: str, credentials: Credentials | None = None, **config: Any) -> AsyncIterator[RegistryClient]:
    context = cast(DriverContext, SimpleNamespace(config=msgspec.convert(config, HttpConfig)))
    async with HttpRegistry(context).connect(host, credentials) as client:
        yield client


def descriptor(content: bytes, media_type: str = OCI_LAYER_TAR) -> Descriptor:
    return Descriptor(media_type, digest_of(content), len(content))


async def push_blob(client: RegistryClient, repository: str, content: bytes) -> None:
    async def read(offset: int) -> AsyncIterator[bytes]:
        for start in range(offset, len(content), 1 << 16):
            yield content[start : start + (1 << 16)]

    await client.push_blob(repository, descriptor(content), read)


async def push_image(client: RegistryClient, repository: str, tag: str) -> str:
    for content in (LAYER, CONFIG):
        await push_blob(client, repository, content)
    manifest = make_manifest(
        ImageManifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=descriptor(CONFIG, OCI_CONFIG),
            layers=[descriptor(LAYER)],
        )
    )
    await client.push_manifest(repository, tag, manifest)
    return manifest.descriptor.digest


async def fetched(client: RegistryClient, repository: str, content: bytes, offset: int = 0) -> bytes:
    async with client.fetch(repository, descriptor(content), offset) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_what_is_pushed_comes_back(tmp_path: Path) -> None:
    async with Registry(tmp_path) as registry, connected(registry.host) as client:
        digest = await push_image(client, "team/app", "1")
        manifest = await client.resolve("team/app", "1")
        assert (manifest.descriptor.digest, manifest.descriptor.media_type) == (digest, OCI_MANIFEST)
        assert (await client.resolve("team/app", digest)).content == manifest.content
        assert await fetched(client, "team/app", LAYER) == LAYER
        assert await fetched(client, "team/app", LAYER, 1000) == LAYER[1000:]
        assert list(await client.tags("team/app")) == ["1"]
        assert await client.has_blob("team/app", digest_of(LAYER))
        assert not await client.has_blob("other", digest_of(LAYER))
        assert await client.mount_blob("other", digest_of(LAYER), "team/app")
        assert await fetched(client, "other", LAYER) == LAYER
        assert not await client.mount_blob("third", digest_of(LAYER), "no/such")
        await client.delete("team/app", digest)
        assert list(await client.tags("team/app")) == []
        assert list(await client.referrers("team/app", digest)) == []


async def test_an_unknown_tag_has_dockers_words() -> None:
    async with Registry() as registry, connected(registry.host) as client:
        with pytest.raises(NotFound) as caught:
            await client.resolve("team/app", "nope")
    assert str(caught.value).startswith(f"manifest for {registry.host}/team/app:nope not found: manifest unknown")


@pytest.mark.parametrize("tokens", [False, True])
async def test_credentials_are_asked_for_and_accepted(tokens: bool) -> None:
    async with Registry(users={"ann": "secret"}, tokens=tokens) as registry:
        async with connected(registry.host, Credentials("ann", "secret")) as client:
            digest = await push_image(client, "team/app", "1")
            assert await client.mount_blob("team/copy", digest_of(LAYER), "team/app")
            assert (await client.check_login()) == ("refresh:secret" if tokens else "")
        async with connected(registry.host) as client:
            with pytest.raises(
                Unauthorized, match=r"pull access denied for .*, repository does not exist or may require"
            ):
                await client.resolve("team/app", digest)
        async with connected(registry.host, Credentials("ann", "wrong")) as client:
            with pytest.raises(Unauthorized, match="docker login"):
                await client.resolve("team/app", digest)
            with pytest.raises(Unauthorized):
                await client.check_login()


async def test_an_identity_token_is_traded_for_a_bearer_token() -> None:
    async with Registry(users={"ann": "secret"}, tokens=True) as registry:
        async with connected(registry.host, Credentials("<token>", identity_token="refresh:secret")) as client:
            await push_image(client, "team/app", "1")
        posts = [request for request in registry.requests if request.path == "/token"]
        assert {request.method for request in posts} == {"POST"}
        assert not any("authorization" in request.headers for request in posts)


async def test_a_token_is_used_again() -> None:
    async with Registry(users={"ann": "secret"}, tokens=True) as registry:
        async with connected(registry.host, Credentials("ann", "secret")) as client:
            for _ in range(3):
                await client.has_blob("team/app", digest_of(LAYER))
        assert sum(request.path == "/token" for request in registry.requests) == 1


async def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    async with (
        Registry() as storage,
        Registry(users={"ann": "secret"}) as registry,
        connected(storage.host) as anonymous,
        connected(registry.host, Credentials("ann", "secret")) as client,
    ):
        await push_blob(anonymous, "team/app", LAYER)
        await push_image(client, "team/app", "1")
        location = f"http://{storage.host}/v2/team/app/blobs/{digest_of(LAYER)}"
        registry.faults.append(Fault("GET", "/blobs/", status=307, headers={"location": location}))
        seen = len(storage.requests)
        assert await fetched(client, "team/app", LAYER) == LAYER
        assert [r.path for r in storage.requests[seen:]] == [f"/v2/team/app/blobs/{digest_of(LAYER)}"]
        assert "authorization" not in storage.requests[-1].headers


async def test_a_cut_download_goes_on_where_it_broke_off() -> None:
    async with Registry() as registry, connected(registry.host) as client:
        await push_image(client, "team/app", "1")
        registry.faults += [Fault("GET", "/blobs/", cut_after=300_000), Fault("GET", "/blobs/", cut_after=200_000)]
        assert await fetched(client, "team/app", LAYER) == LAYER
        ranges = [r.headers.get("range") for r in registry.requests if r.method == "GET" and "/blobs/" in r.path]
        assert ranges == [None, "bytes=300000-", "bytes=500000-"]


async def test_passing_failures_are_tried_again() -> None:
    async with Registry() as registry, connected(registry.host) as client:
        digest = await push_image(client, "team/app", "1")
        registry.faults += [
            Fault("GET", "/manifests/", status=503, times=2),
            Fault("GET", "/manifests/", status=429, headers={"retry-after": "0"}),
        ]
        assert (await client.resolve("team/app", "1")).descriptor.digest == digest


async def test_a_wish_to_wait_too_long_is_an_error() -> None:
    async with Registry() as registry, connected(registry.host) as client:
        registry.faults.append(Fault("GET", "/manifests/", status=429, headers={"retry-after": "3600"}))
        with pytest.raises(Unavailable, match="toomanyrequests"):
            await client.resolve("team/app", "1")


async def test_a_lost_upload_starts_anew() -> None:
    async with Registry() as registry, connected(registry.host) as client:
        registry.faults.append(Fault("PUT", "/uploads/", status=502))
        await push_blob(client, "team/app", LAYER)
        assert await fetched(client, "team/app", LAYER) == LAYER


async def test_a_damaged_manifest_is_data_loss(tmp_path: Path) -> None:
    async with Registry(tmp_path) as registry, connected(registry.host) as client:
        digest = await push_image(client, "team/app", "1")
        (tmp_path / "blobs" / digest[7:]).write_bytes(b"{}")
        with pytest.raises(DataLoss, match="damaged"):
            await client.resolve("team/app", digest)


async def test_a_dead_registry_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
        async with connected(host, retries=1) as client:
            with pytest.raises(Unavailable, match="connection refused") as caught:
                await client.resolve("team/app", "1")
    assert host in str(caught.value) and caught.value.remedy


async def test_a_silent_registry_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with connected(f"127.0.0.1:{silent.getsockname()[1]}", retries=0, timeout=0.2) as client:
            with pytest.raises(Unavailable, match="did not answer in time"):
                await client.resolve("team/app", "1")


async def test_an_unknown_host_is_unavailable() -> None:
    async with connected("no-such-host.invalid") as client:
        with pytest.raises(Unavailable, match="no such host"):
            await client.resolve("team/app", "1")


@pytest.mark.parametrize(
    ("host", "insecure"),
    [
        ("localhost:5000", True),
        ("127.8.0.1", True),
        ("[::1]:5000", True),
        ("10.1.2.3:80", True),
        ("lab:1", True),
        ("docker.io", False),
        ("localhost.example:5000", False),
    ],
)
async def test_which_registries_need_no_tls(host: str, insecure: bool) -> None:
    assert is_insecure(host, HttpConfig(insecure=["10.0.0.0/8", "lab"])) is insecure


async def test_a_registry_that_drips_is_left() -> None:
    async def drip(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(LAYER)}\r\n\r\n".encode())
            with contextlib.suppress(anyio.BrokenResourceError):
                while True:
                    await stream.send(b"x")
                    await anyio.sleep(0.05)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    host = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, drip)
        async with connected(host, retries=1, timeout=0.2) as client:
            with pytest.raises(Unavailable, match=r"cannot reach the registry .*: it gave \d+ bytes in 1 s"):
                await fetched(client, "team/app", LAYER)
        group.cancel_scope.cancel()
