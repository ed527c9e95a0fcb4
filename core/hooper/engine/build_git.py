"""Repositories as sources of builds: a reference becomes a commit first, whose files are then kept by it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from hooper.api.build_graph import GitSource, SshMount
from hooper.api.build_session import BuildSession
from hooper.api.driver import Workers
from hooper.api.errors import InvalidArgument
from hooper.engine import build_ssh
from hooper.engine.build_files import SourceEntry, entries_of
from hooper.engine.build_kept import temporary

_WORKER = "hooper.content.repositories"


class Remote(NamedTuple):
    """A repository that can be reached as long as its context lasts."""

    source: GitSource
    commit: str
    arguments: dict[str, Any]


@asynccontextmanager
async def remote_of(
    source: GitSource, session: BuildSession, workers: Workers, directory: Path
) -> AsyncIterator[Remote]:
    """Finds out which commit is meant. For ssh the session's agent "default" has the key, if it has that agent.

    InvalidArgument if the commit is not what `source.checksum` says; NotFound, Unavailable, Unsupported.
    """
    async with temporary(directory) as scratch, _agent(source, session, scratch) as agent:
        (directory / "git").mkdir(mode=0o700, exist_ok=True)
        arguments = {
            "remote": source.remote,
            "ref": source.ref,
            "agent": agent,
            "known_hosts": str(directory / "git" / "known_hosts"),
        }
        given = {**arguments, "scratch": str(scratch / "repository")}
        commit: str = await workers.run(f"{_WORKER}:resolve", given)
        if source.checksum and not commit.startswith(source.checksum):
            raise InvalidArgument(
                f"expected checksum to match {source.checksum}, got {commit}",
                f"{source.ref or 'the default branch'} is another commit",
                "Name the commit that you mean.",
            )
        yield Remote(source, commit, arguments)


@asynccontextmanager
async def _agent(source: GitSource, session: BuildSession, directory: Path) -> AsyncIterator[str]:
    mount = SshMount()
    over_ssh = source.remote.startswith("ssh://") or "://" not in source.remote
    if not over_ssh or not await build_ssh.has_agent(session, mount):
        yield ""
        return
    async with build_ssh.listening(str(directory), "agent", mount, session, structlog.get_logger()) as path:
        yield path


def key_of(source: GitSource, commit: str) -> str:
    """What its files are kept by."""
    parts = (source.remote, commit, source.subdirectory, str(source.keep_git_dir), str(source.submodules))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


async def check_out(remote: Remote, place: Path, workers: Workers) -> list[SourceEntry]:
    """The files of the commit in `place`/tree, fetched if they are not there. All of them have the commit's time."""
    source = remote.source
    arguments = {
        **remote.arguments,
        "commit": remote.commit,
        "place": str(place),
        "subdirectory": source.subdirectory,
        "keep_git_dir": source.keep_git_dir,
        "submodules": source.submodules,
    }
    return entries_of(await workers.run(f"{_WORKER}:check_out", arguments))
