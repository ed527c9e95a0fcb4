"""Garbage collection: blobs that no manifest names, uploads that nobody goes on with, repositories without anything.

It may run at any time, also in another process than the server's: what was put there or asked for within the time of
grace stays, and a blob's file and record go together under the catalogue's lock.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial

import anyio.to_thread
import msgspec

from hooper_registry_server.catalogue import Catalogue
from hooper_registry_server.store import Store

_UNREFERENCED = """used < ? AND NOT EXISTS (
    SELECT 1 FROM parts WHERE parts.repository=links.repository AND parts.digest=links.digest)"""
_UNLINKED = "NOT EXISTS (SELECT 1 FROM links WHERE links.digest=blobs.digest)"


class Collected(msgspec.Struct):
    blobs: int = 0
    space: int = 0
    """Bytes of them."""
    manifests: int = 0
    uploads: int = 0


async def collect(
    store: Store,
    grace: float,
    upload_expiry: float,
    *,
    untagged: bool = False,
    collect_engine: Callable[[], Awaitable[None]] | None = None,
) -> Collected:
    """Removes garbage older than `grace` seconds. `untagged`: also manifests that no tag leads to: not by an index, and
    not as referrers of what is kept. `collect_engine` is called if the engine may have to remove files itself."""
    done = Collected()
    before = time.time() - grace
    done.uploads = await anyio.to_thread.run_sync(store.uploads.expire, upload_expiry)
    if untagged:
        done.manifests = await anyio.to_thread.run_sync(_forget_untagged, store.catalogue, before)
    await store.blobs.sweep()
    for digest, size in await anyio.to_thread.run_sync(_candidates, store.catalogue, before):
        forget: Callable[[], bool] = partial(_forget, store.catalogue, digest, before)
        if await store.blobs.remove(digest, forget):
            done.blobs += 1
            done.space += size
    await anyio.to_thread.run_sync(_forget_empty, store.catalogue)
    if done.blobs and collect_engine is not None:
        await collect_engine()
    return done


def _candidates(catalogue: Catalogue, before: float) -> list[tuple[str, int]]:
    """Blobs that some repository has in vain, or none at all."""
    return [
        (digest, size)
        for digest, size in catalogue.current(
            f"SELECT digest, size FROM blobs WHERE {_UNLINKED}"
            f" UNION SELECT digest, size FROM links JOIN blobs USING (digest) WHERE {_UNREFERENCED}",
            before,
        )
    ]


def _forget(catalogue: Catalogue, digest: str, before: float) -> bool:
    """Takes the blob out of every repository that does not need it; True if none has it any more."""
    with catalogue.transaction():
        catalogue.change(f"DELETE FROM links WHERE digest=? AND {_UNREFERENCED}", digest, before)
        return catalogue.change(f"DELETE FROM blobs WHERE digest=? AND {_UNLINKED}", digest) > 0


def _forget_untagged(catalogue: Catalogue, before: float) -> int:
    with catalogue.transaction():
        rows = catalogue.current("SELECT repository, digest, subject, pushed FROM manifests")
        children: dict[tuple[str, str], list[str]] = {}
        for repository, manifest, digest in catalogue.current(
            "SELECT repository, manifest, digest FROM parts WHERE is_manifest"
        ):
            children.setdefault((repository, manifest), []).append(digest)
        for repository, digest, subject, _ in rows:
            if subject:
                children.setdefault((repository, subject), []).append(digest)
        waiting = [(row[0], row[1]) for row in catalogue.current("SELECT repository, digest FROM tags")]
        waiting += [(repository, digest) for repository, digest, _, pushed in rows if pushed >= before]
        reached: set[tuple[str, str]] = set()
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting += [(one[0], digest) for digest in children.get(one, ())]
        gone = [(repository, digest) for repository, digest, _, _ in rows if (repository, digest) not in reached]
        for repository, digest in gone:
            catalogue.delete_manifest(repository, digest)
        return len(gone)


def _forget_empty(catalogue: Catalogue) -> None:
    catalogue.change(
        "DELETE FROM repositories WHERE name NOT IN (SELECT repository FROM links)"
        " AND name NOT IN (SELECT repository FROM manifests)"
    )
