"""Files from URLs, for ADD and as contexts, and what of them is kept."""

from __future__ import annotations

import stat

import pytest
from build_files_support import leftovers, member, served, tar

from hooper.api.build_graph import HttpSource
from hooper.api.errors import InvalidArgument, NotFound, Unavailable
from hooper.engine.build_contexts import Contexts
from hooper.testing.workers import ForkWorkers

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture
def server():
    with served() as made:
        yield made


async def downloaded(contexts, url, **more):
    async with contexts.of_download(HttpSource(url=url, **more)) as tree:
        entries = await tree.entries()
        place = await tree.place()
        assert entries == await contexts.files.list(place, ("",))
        (entry,) = entries
        status = (place / entry.path).stat()
        return entry.path, (place / entry.path).read_bytes(), stat.S_IMODE(status.st_mode), status.st_mtime


SHA = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


async def test_a_download(contexts, server):
    server.files["/d/a%20b?x=1"] = {"Last-Modified": "Thu, 01 Jan 1970 00:01:40 GMT"}, b"x"
    assert await downloaded(contexts, f"{server.url}/d/a%20b?x=1") == ("a b", b"x", 0o600, 100)
    server.files["/"] = {}, b"x"
    assert (await downloaded(contexts, f"{server.url}/"))[0] == "download"
    assert (await downloaded(contexts, f"{server.url}/", filename="name"))[0] == "name"


@pytest.mark.parametrize("header", [{"ETag": '"1"'}, {"Last-Modified": "Thu, 01 Jan 1970 00:01:40 GMT"}])
async def test_what_has_not_changed_is_not_fetched_again(contexts, server, header):
    server.files["/f"] = header, b"one"
    await downloaded(contexts, f"{server.url}/f")
    server.files["/f"] = header, b"never seen"
    assert (await downloaded(contexts, f"{server.url}/f"))[1] == b"one"
    server.files["/f"] = {"ETag": '"2"', "Last-Modified": "Fri, 02 Jan 1970 00:00:00 GMT"}, b"two"
    assert (await downloaded(contexts, f"{server.url}/f"))[1] == b"two"


async def test_with_a_checksum_the_server_is_asked_once(contexts, server):
    server.files["/f"] = {}, b"x"
    for _ in range(2):
        assert (await downloaded(contexts, f"{server.url}/f", checksum=SHA))[1] == b"x"
    assert len(server.seen) == 1


async def test_a_file_that_is_used_does_not_change(contexts, server):
    server.files["/f"] = {}, b"one"
    async with contexts.of_download(HttpSource(url=f"{server.url}/f")) as tree:
        server.files["/f"] = {}, b"two"
        assert (await downloaded(contexts, f"{server.url}/f"))[1] == b"two"
        assert ((await tree.place()) / "f").read_bytes() == b"one"
    assert leftovers(contexts) == []


@pytest.mark.parametrize(
    ("path", "more", "kind", "told"),
    [
        ("/none", {}, NotFound, "the server answered 404"),
        ("/403", {}, InvalidArgument, "the server answered 403"),
        ("/500", {}, Unavailable, "the server answered 500"),
        (
            "/f",
            {"checksum": "sha256:" + "0" * 64},
            InvalidArgument,
            f"digest mismatch: .* has {SHA}, expected sha256:00",
        ),
        ("/f", {"checksum": "md5:abc"}, InvalidArgument, "unsupported checksum"),
        ("/loop", {}, (Unavailable, InvalidArgument), "ADD failed: GET"),
        ("/file", {}, (Unavailable, InvalidArgument), "ADD failed: GET"),
        ("/short", {}, Unavailable, "ADD failed: GET"),
    ],
)
async def test_downloads_that_fail(contexts, server, path, more, kind, told):
    server.files |= {
        "/f": ({}, b"x"), "/403": (403, {}), "/500": (500, {}), "/loop": (302, {"Location": "/loop"}),
        "/file": (302, {"Location": "file:///etc/passwd"}), "/short": ({"Content-Length": "50"}, b"x"),
    }  # fmt: skip
    with pytest.raises(kind, match=told):
        await downloaded(contexts, f"{server.url}{path}", **more)
    (key,) = (contexts._directory / "downloads").iterdir()
    assert list((key / "tree").iterdir()) == []


async def test_a_server_that_is_not_there(contexts):
    with pytest.raises(Unavailable, match=r"ADD failed: GET http://127\.0\.0\.1:1/x: .*refused"):
        await downloaded(contexts, "http://127.0.0.1:1/x")


async def test_credentials_go_to_their_own_server_alone(contexts, server):
    server.files |= {"/f": (302, {"Location": f"{server.url.replace('127.0.0.1', 'localhost')}/g"}), "/g": ({}, b"x")}
    with_password = server.url.replace("//", "//user:secret@")
    assert (await downloaded(contexts, f"{with_password}/f"))[1] == b"x"
    assert [headers.get("Authorization") for _, headers in server.seen] == ["Basic dXNlcjpzZWNyZXQ=", None]
    with pytest.raises(NotFound) as raised:
        await downloaded(contexts, f"{with_password}/none")
    assert "secret" not in str(raised.value)
    with pytest.raises(NotFound) as raised:
        await downloaded(contexts, server.url.replace("//", "//secret-token@") + "/none")
    assert "secret" not in str(raised.value)
    steps = await contexts.kept[1].kept()
    assert not any("secret" in step.description for step in steps)


@pytest.mark.parametrize("url", ["http://[x/y", "http://user:secret@[x/y"])
async def test_what_is_no_url(contexts, url):
    with pytest.raises(InvalidArgument, match="invalid URL") as raised:
        await downloaded(contexts, url)
    assert "secret" not in str(raised.value)


async def test_of_a_download_that_fails_nothing_stays(tmp_path, server):
    contexts = Contexts(ForkWorkers(), tmp_path / "builds", limit=1 << 20)
    server.files["/f"] = {}, bytes(2 << 20)
    with pytest.raises(InvalidArgument, match="it has more than"):
        await downloaded(contexts, f"{server.url}/f")
    (key,) = (tmp_path / "builds/downloads").iterdir()
    assert sorted(path.name for path in key.iterdir()) == ["about.json", "tree"]


async def test_a_download_that_is_too_large(tmp_path, server):
    server.files["/f"] = {}, bytes(2000)
    contexts = Contexts(ForkWorkers(), tmp_path / "builds", limit=1000)
    with pytest.raises(InvalidArgument, match="more than 1000 bytes"):
        await downloaded(contexts, f"{server.url}/f")


async def test_an_url_is_a_recipe_or_an_archive(contexts, server):
    server.files |= {"/Recipe.txt": ({}, b"FROM scratch"), "/c.tgz": ({}, tar(member("d/f", b"1"), mode="w:gz"))}
    async with contexts.of_url(f"{server.url}/Recipe.txt") as context:
        assert context.recipe_default == "Dockerfile"
        assert (context.directory / "Dockerfile").read_text() == "FROM scratch"
    async with contexts.of_url(f"{server.url}/c.tgz") as context:
        assert context.recipe_default == ""
        assert [entry.path for entry in await context.tree.entries()] == ["d", "d/f"]
    with pytest.raises(InvalidArgument, match="it is no URL"):
        async with contexts.of_url("file:///etc/passwd"):
            raise AssertionError
