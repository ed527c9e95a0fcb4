"""A client's SSH agent as a socket that a build's command finds: each connection is one to the client."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

from hooper.api.build_graph import SshMount
from hooper.api.build_session import BuildSession
from hooper.api.errors import HooperError, NotFound

_PIECE = 1 << 16


async def has_agent(session: BuildSession, mount: SshMount) -> bool:
    """Whether the client has it. NotFound if it has not and it is required."""
    try:
        connection = await session.open("ssh", mount.id)
    except NotFound as error:
        if not mount.required:
            return False
        why = f"not found: {error.why}" if error.why else "not found"
        remedy = f"Give it to the build: --ssh {mount.id}"
        raise NotFound(f"SSH agent {mount.id}", why, remedy) from error
    connection.close()
    return True


@asynccontextmanager
async def listening(directory: str, name: str, mount: SshMount, session: BuildSession, log: Any) -> AsyncIterator[str]:
    """The path of a socket in `directory` that leads to the agent while this lasts; connections end with it."""
    path = os.path.join(directory, name)
    forwarder = _Forwarder(mount, session, log)
    with _bound(directory, name) as listener:
        os.chown(path, mount.uid, mount.gid)
        os.chmod(path, mount.mode & 0o777)
        forwarder.begin(forwarder.accept(listener))
        try:
            yield path
        finally:
            with anyio.CancelScope(shield=True):
                await forwarder.aclose()


def _bound(directory: str, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Through the descriptor: the path itself may be longer than sun_path takes.
            listener.bind(f"/proc/self/fd/{parent}/{name}")
        finally:
            os.close(parent)
        listener.listen()
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class _Forwarder:
    def __init__(self, mount: SshMount, session: BuildSession, log: Any) -> None:
        self._mount, self._session, self._log = mount, session, log
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Not a task group, which would wrap the errors of what happens while this goes on."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(self, listener: socket.socket) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self.begin(self.forward(connection))

    async def forward(self, connection: socket.socket) -> None:
        """Both ways, until both sides have said all. What goes wrong ends this connection and nothing else."""
        with connection:
            connection.setblocking(False)
            try:
                agent = await self._session.open("ssh", self._mount.id)
            except (HooperError, OSError) as error:
                self._log.warning("cannot reach an SSH agent of a build", agent=self._mount.id, error=str(error))
                return
            with agent:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_pass_on, connection, agent)
                    tasks.start_soon(_pass_on, agent, connection)


async def _pass_on(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, _PIECE):
            await loop.sock_sendall(target, data)
    except OSError:
        # One side is gone: nothing more can come from it or get there, so the other way ends too.
        _shut(source, socket.SHUT_RDWR)
        _shut(target, socket.SHUT_RDWR)
    else:
        _shut(target, socket.SHUT_WR)


def _shut(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # it is shut already
        connection.shutdown(how)
