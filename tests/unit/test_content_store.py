"""The content store."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import pytest

from hooper.api.errors import Conflict, DataLoss, InvalidArgument, NotFound
from hooper.content.store import ContentStore

pytestmark = pytest.mark.anyio
BLOB = b"content" * 500_000


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def interrupted(store: ContentStore, name: str, data: bytes) -> None:
    """A download whose connection breaks after `data`."""
    with contextlib.suppress(ConnectionError):
        async with store.writer(name) as writer:
            await writer.write(data)
            raise ConnectionError


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path)


async def test_a_blob_is_had_by_its_digest(store: ContentStore) -> None:
    name = digest(BLOB)
    async with store.writer(name, len(BLOB)) as writer:
        for start in range(0, len(BLOB), 300_000):
            await writer.write(BLOB[start : start + 300_000])
        assert not store.has(name)
    assert store.has(name) and store.size(name) == len(BLOB)
    fd = store.open(name)
    assert os.pread(fd, 7, 7) == b"content"
    os.close(fd)
    assert list(store.walk()) == [(name, len(BLOB))]
    store.delete(name)
    store.delete(name)
    assert not store.has(name) and list(store.walk()) == []


async def test_small_bytes(store: ContentStore) -> None:
    assert await store.put_bytes(b"{}") == digest(b"{}") == await store.put_bytes(b"{}")
    assert store.path(digest(b"{}")).read_bytes() == b"{}"


async def test_an_interrupted_write_goes_on(store: ContentStore) -> None:
    name = digest(BLOB)
    await interrupted(store, name, BLOB[:1_234_567])
    async with store.writer(name, len(BLOB)) as writer:
        assert writer.offset == 1_234_567
        await writer.write(BLOB[writer.offset :])
    assert store.path(name).read_bytes() == BLOB


async def test_a_source_that_cannot_go_on_starts_again(store: ContentStore) -> None:
    name = digest(b"right")
    await interrupted(store, name, b"wro")
    async with store.writer(name, 5) as writer:
        writer.restart()
        await writer.write(b"right")
    assert store.path(name).read_bytes() == b"right"


@pytest.mark.parametrize("data", [b"wrong", b"short", b"much longer than that"], ids=len)
async def test_a_wrong_blob_is_data_loss_and_leaves_nothing(store: ContentStore, data: bytes) -> None:
    size = 5 if data != b"short" else 6
    with pytest.raises(DataLoss):
        async with store.writer(digest(b"right"), size) as writer:
            await writer.write(data)
    assert not store.has(digest(b"right"))
    async with store.writer(digest(b"right")) as writer:
        assert writer.offset == 0
        await writer.write(b"right")


async def test_a_blob_has_one_writer(store: ContentStore) -> None:
    async with store.writer(digest(b"1")) as writer:
        with pytest.raises(Conflict):
            async with store.writer(digest(b"1")):
                pass
        await writer.write(b"1")
    assert store.has(digest(b"1"))


async def test_partial_writes_can_be_forgotten(store: ContentStore) -> None:
    await interrupted(store, digest(b"1"), b"1")
    store.forget_partial()
    async with store.writer(digest(b"1")) as writer:
        assert writer.offset == 0
        await writer.write(b"1")


async def test_what_is_missing_is_not_found(store: ContentStore) -> None:
    for verb in (store.open, store.size):
        with pytest.raises(NotFound):
            verb(digest(b"missing"))


@pytest.mark.parametrize("name", ["", "sha256:", "sha256:../../../etc/passwd", "md5:" + "0" * 32, "sha256:" + "A" * 64])
async def test_a_bad_digest_is_refused(store: ContentStore, name: str) -> None:
    with pytest.raises(InvalidArgument):
        store.has(name)
