"""The front-end: listeners, connections, and what happens to errors."""

from __future__ import annotations

import socket
from collections.abc import Sequence

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
from hooper_api_docker.sockets import Listening, accept, open_listeners

START_PATH = ("containers:create", "system:ping", "attach:attach", "exec:start")
"""Handlers whose modules are imported at the start, not by the first client."""


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
        opened = open_listeners(listeners)
        try:
            async with anyio.create_task_group() as group:
                for listening in opened:
                    group.start_soon(self._accept, listening, group)
                task_status.started()
        finally:
            for listening in opened:
                listening.close()

    async def _accept(self, listening: Listening, group: anyio.abc.TaskGroup) -> None:
        while True:
            group.start_soon(self._serve, await accept(listening.socket))

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
