"""docker-registry with TLS, and with a token server: who may what, and what is sent to whom."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from images_support import Host
from registry_support import Authority, TokenServer, token_server
from test_registry_http import LAYER, connected, push_image
from test_registry_images import Pushed

import support
from hooper.api.errors import InvalidArgument, Unauthorized, Unavailable
from hooper.api.manifests import digest_of
from hooper.api.registry import Credentials

pytestmark = pytest.mark.anyio
ANN = Credentials("ann", "secret")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[tuple[str, TokenServer]]:
    """A registry and its token server."""
    with contextlib.ExitStack() as stack:
        tokens = stack.enter_context(token_server(authority, ann="secret"))
        yield stack.enter_context(support.docker_registry(tmp_path_factory.mktemp("guarded"), auth=tokens.auth)), tokens


async def test_scopes_are_those_that_the_work_needs(guarded: tuple[str, TokenServer]) -> None:
    host, tokens = guarded
    async with connected(host, ANN) as client:
        await push_image(client, "team/app", "1")
        tokens.asked.clear()
        assert await client.mount_blob("team/copy", digest_of(LAYER), "team/app")
        await client.resolve("team/app", "1")
        await client.resolve("team/app", "1")
    assert tokens.asked == [
        ("GET", ["repository:team/app:pull", "repository:team/copy:pull,push"], "ann"),
        ("GET", ["repository:team/app:pull"], "ann"),
    ]


async def test_nobody_reads_what_is_public_and_no_more(guarded: tuple[str, TokenServer], tmp_path: Path) -> None:
    host, _ = guarded
    pushed = Pushed()
    for name in ("public/app", "team/hidden"):
        await pushed.push(host, name, "1", ANN)
    engine = Host(tmp_path / "host")
    assert await engine.images.pull(f"{host}/public/app:1", engine.sink) == pushed.id
    with pytest.raises(Unauthorized, match=r"pull access denied for .*, repository does not exist or may require"):
        await engine.images.pull(f"{host}/team/hidden:1", engine.sink)
    await engine.images.tag(f"{host}/public/app:1", f"{host}/public/mine:1")
    with pytest.raises(Unauthorized, match="push access denied"):
        await engine.images.push(f"{host}/public/mine:1", engine.sink)


async def test_an_identity_token_stands_for_the_password(guarded: tuple[str, TokenServer]) -> None:
    host, tokens = guarded
    async with connected(host, ANN) as client:
        identity = await client.check_login()
    assert identity == "refresh:ann"
    tokens.asked.clear()
    async with connected(host, Credentials("ann", identity_token=identity)) as client:
        await push_image(client, "team/identity", "1")
    assert {(method, user) for method, _, user in tokens.asked} == {("POST", "ann")}
    async with connected(host, Credentials("ann", identity_token="refresh:bob")) as client:
        with pytest.raises(Unauthorized, match="refused"):
            await client.resolve("team/identity", "1")


async def test_a_token_that_has_ended_is_fetched_anew(guarded: tuple[str, TokenServer]) -> None:
    host, tokens = guarded
    async with connected(host, ANN) as client:
        digest = await push_image(client, "team/late", "1")
    tokens.asked.clear()
    tokens.spoiled = 1
    async with connected(host, ANN) as client:
        assert (await client.resolve("team/late", "1")).descriptor.digest == digest
    assert len(tokens.asked) == 2


async def test_the_wrong_password_says_so(guarded: tuple[str, TokenServer]) -> None:
    host, _ = guarded
    async with connected(host, Credentials("ann", "wrong")) as client:
        with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password"):
            await client.check_login()
        with pytest.raises(Unauthorized, match="incorrect username or password"):
            await client.resolve("team/app", "1")


async def test_the_catalogue_has_a_scope_of_its_own(guarded: tuple[str, TokenServer]) -> None:
    host, tokens = guarded
    async with connected(host, ANN) as client:
        await push_image(client, "team/wanted", "1")
        tokens.asked.clear()
        assert [one.name for one in await client.search("WANT", 10)] == ["team/wanted"]
        assert tokens.asked[-1][1] == ["registry:catalog:*"]
    async with connected(host) as client:
        with pytest.raises(Unauthorized, match=r"search of .* refused"):
            await client.search("want", 10)


# --- TLS ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[str]:
    """A registry with TLS that wants certificates of its clients."""
    certificate, key = authority.issue("server")
    tls = {"certificate": str(certificate), "key": str(key), "clientcas": [str(authority.certificate)]}
    with support.docker_registry(tmp_path_factory.mktemp("closed"), http={"tls": tls}) as host:
        yield host


def put_certificates(directory: Path, authority: Authority, *names: str) -> None:
    directory.mkdir(parents=True)
    certificate, key = authority.issue("client")
    sources = {"ca.crt": authority.certificate, "client.cert": certificate, "client.key": key}
    for name in names:
        (directory / name).write_bytes(sources[name].read_bytes())


async def test_certificates_of_both_sides(closed: str, authority: Authority, tmp_path: Path) -> None:
    put_certificates(tmp_path / closed, authority, "ca.crt", "client.cert", "client.key")
    strict = {closed: {"insecure": False}}
    async with connected(closed, registries=strict, cert_dirs=["/nonexistent", str(tmp_path)]) as client:
        await push_image(client, "team/app", "1")
        assert list(await client.tags("team/app")) == ["1"]
    async with connected(closed, registries=strict, cert_dirs=[]) as client:
        with pytest.raises(Unavailable, match="its certificate is not trusted") as caught:
            await client.resolve("team/app", "1")
    assert "certs.d" in caught.value.remedy


async def test_without_a_certificate_of_ours(closed: str, authority: Authority, tmp_path: Path) -> None:
    table = {closed: {"insecure": False, "ca": str(authority.certificate)}}
    async with connected(closed, registries=table, cert_dirs=[], retries=0) as client:
        with pytest.raises(Unavailable, match="it wants a client certificate that it trusts"):
            await client.resolve("team/app", "1")
    put_certificates(tmp_path / closed, authority, "ca.crt", "client.cert")
    async with connected(closed, registries=table, cert_dirs=[str(tmp_path)]) as client:
        with pytest.raises(InvalidArgument, match=r"missing key client\.key for client certificate client\.cert"):
            await client.resolve("team/app", "1")


async def test_an_insecure_registry_may_have_any_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    with support.docker_registry(tmp_path, http={"tls": {"certificate": str(certificate), "key": str(key)}}) as host:
        async with connected(host, cert_dirs=[]) as client:  # on a loopback address
            await push_image(client, "team/app", "1")
            assert list(await client.tags("team/app")) == ["1"]
