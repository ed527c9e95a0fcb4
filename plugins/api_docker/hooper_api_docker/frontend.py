"""The front-end: listeners, connections, and what happens to errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any

import anyio
import anyio.abc

from hooper.api.driver import DriverContext
from hooper.api.engine import Engine
from hooper.api.errors import HooperError
from hooper.api.frontend import Frontend, Listener
from hooper_api_docker.errors import ClientGone, unwrap
from hooper_api_docker.http import Connection, Headers, Request
from hooper_api_docker.router import MAX_VERSION, Router, version_text
from hooper_api_docker.routes import ROUTES
from hooper_api_docker.sockets import accepting, open_listeners

START_PATH = ("containers:create", "system:ping", "attach:attach", "exec:start")
"""Handlers whose modules are imported at the start, not by the first client."""
_CANCEL_AGAIN_S = 0.5
"""A connection that has gone on after it was cancelled is cancelled again."""


@asynccontextmanager
async def _connections() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """Runs what it yields a function for; at the end it is cancelled. It must raise nothing.

    As a task group of anyio, whose start of a task takes six times as long, more than to read a request's head.
    """
    tasks: set[asyncio.Task[None]] = set()

    def start(serve: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(serve)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        yield start
    finally:
        with anyio.CancelScope(shield=True):
            while tasks:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=_CANCEL_AGAIN_S)


class DockerFrontend(Frontend):
    """Speaks the Docker Engine API, versions 1.24 to 1.50."""

    def __init__(self, context: DriverContext, engine: Engine) -> None:
        super().__init__(context, engine)
        self._router = Router(ROUTES)
        self._headers: Headers = []

    async def serve(
        self,
        listeners: Sequence[Listener],
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        about = await self.engine.system.version()
        self._headers = [
            (b"Api-Version", version_text(MAX_VERSION).encode()),
            (b"Docker-Experimental", about.get("Experimental", "false").encode()),
            (b"Ostype", b"linux"),
            (b"Server", f"hooper/{about.get('Version', '')} (linux)".encode()),
        ]
        for target in START_PATH:
            self._router.preload(target)
        with ExitStack() as stack:
            opened = [stack.enter_context(closing(listening)) for listening in open_listeners(listeners)]
            async with _connections() as start:
                with ExitStack() as doors:
                    for listening in opened:
                        doors.enter_context(accepting(listening.socket, lambda sock: start(self._serve(sock))))
                    task_status.started()
                    await anyio.sleep_forever()

    async def _serve(self, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await Connection(sock, self._handle, self._headers).serve()
        except Exception as error:
            self.context.log.error("a connection broke off", error=repr(error), exc_info=error)

    async def _handle(self, request: Request) -> None:
        try:
            response = await self._router.handle(self.engine, request)
            if response is not None:
                await request.respond(response)
        except ClientGone:
            raise
        except Exception as raised:
            error = unwrap(raised)
            if isinstance(error, ClientGone):
                raise ClientGone from error
            if not isinstance(error, HooperError) or error.kind == "internal":
                self.context.log.error(
                    "a request failed", method=request.method, path=request.path, error=str(error), exc_info=error
                )
            await request.fail(error)
