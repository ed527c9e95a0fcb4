"""The server: connections, the log of requests, and what runs beside them."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc

from hooper.api.errors import HooperError
from hooper_registry_server.auth import Gate
from hooper_registry_server.garbage import Collected, collect
from hooper_registry_server.http import JSON, Connection, Request, Response
from hooper_registry_server.problems import Problem, problem_of
from hooper_registry_server.routes import answer
from hooper_registry_server.settings import Settings
from hooper_registry_server.store import Store
from hooper_registry_server.upstream import Upstream
from hooper_registry_server.wires import Gone, PlainWire, TlsWire, Wire, accept, open_listener, tls_context

_THREADS = 16
"""That wait for disks to send blobs."""


class Server:
    """`collect_engine` removes what the engine keeps no longer, where its content is used. InvalidArgument for
    settings that cannot be."""

    def __init__(
        self, settings: Settings, store: Store, log: Any, collect_engine: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.settings, self.store, self.log = settings, store, log
        self.gate = Gate(settings)
        self.upstream = Upstream(settings, store, log) if settings.upstream else None
        self._tls = tls_context(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._connections = anyio.Semaphore(settings.max_connections)
        self._collect_engine = collect_engine
        self.addresses: list[str] = []
        """HOST:PORT of each listener, once they are open."""

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled."""
        listeners: list[socket.socket] = []
        try:
            for address in self.settings.listen:
                listeners.append(open_listener(address))
            self.addresses = [_address(listener) for listener in listeners]
            async with anyio.create_task_group() as group:
                if self.upstream is not None:
                    await group.start(self.upstream.run)
                if self.settings.gc_interval:
                    group.start_soon(self._collect_regularly)
                for listener in listeners:
                    group.start_soon(self._accept, listener, group)
                self.log.info("registry ready", addresses=self.addresses)
                task_status.started()
        finally:
            for listener in listeners:
                listener.close()

    # --- what may be done -----------------------------------------------------------------------------

    def check_writable(self) -> None:
        if not self.settings.writable:
            why = "it is a cache of another registry" if self.settings.upstream else "it is read-only"
            raise Problem(405, "UNSUPPORTED", f"nothing can be pushed to this registry: {why}")

    def check_deletable(self) -> None:
        if not (self.settings.writable and self.settings.delete):
            raise Problem(405, "UNSUPPORTED", "nothing can be deleted in this registry")

    # --- connections ----------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket, group: anyio.abc.TaskGroup) -> None:
        while True:
            await self._connections.acquire()
            sock, peer = await accept(listener)
            group.start_soon(self._connected, sock, peer)

    async def _connected(self, sock: socket.socket, peer: str) -> None:
        try:
            await self._serve(sock, peer)
        except Exception as error:
            # One connection's fault ends no other.
            self.log.error("a connection broke off", peer=peer, exc_info=error)
        finally:
            sock.close()
            self._connections.release()

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        wire: Wire = PlainWire(sock, self.settings.timeout)
        if self._tls is not None:
            try:
                wire = await self._encrypted(wire, self._tls)
            except Gone:
                return

        async def handle(request: Request) -> Response:
            return await self._handle(request, peer)

        secure = self._tls is not None
        await Connection(wire, handle, self.settings.timeout, self._threads, secure=secure).serve()

    async def _encrypted(self, wire: Wire, context: ssl.SSLContext) -> TlsWire:
        assert isinstance(wire, PlainWire)
        encrypted = TlsWire(wire, self.settings.timeout)
        await encrypted.handshake(context)
        return encrypted

    async def _handle(self, request: Request, peer: str) -> Response:
        """Logs the path alone: queries and headers may have secrets in them."""
        started = time.monotonic()
        status = 0
        try:
            response = await self._answer(request)
            status = response.status
            return response
        finally:
            self.log.info(
                "request",
                method=request.method,
                path=request.path,
                status=status,
                peer=peer,
                user=request.user,
                ms=round((time.monotonic() - started) * 1000),
            )

    async def _answer(self, request: Request) -> Response:
        try:
            return await answer(self, request)
        except Problem as problem:
            return _refused(request, problem)
        except HooperError as error:
            self.log.error("a request failed", path=request.path, error=str(error))
            return _refused(request, problem_of(error))
        except OSError as error:
            self.log.error("a request failed", path=request.path, error=str(error))
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return _refused(request, Problem(507 if full else 500, "UNKNOWN", error.strerror or "a fault of the disk"))
        except Gone:
            raise
        except Exception as error:
            self.log.error("a request failed", path=request.path, exc_info=error)
            return _refused(request, Problem(500, "UNKNOWN", "a fault of the registry; its log tells more"))

    # --- collection -----------------------------------------------------------------------------------

    async def _collect_regularly(self) -> None:
        while True:
            try:
                await self.collect()
            except Exception as error:
                # It is tried again; the server goes on.
                self.log.error("the collection of garbage failed", exc_info=error)
            await anyio.sleep(self.settings.gc_interval)

    async def collect(self) -> Collected:
        """Once, now. A cache also forgets what no tag of its upstream leads to."""
        settings = self.settings
        caching = self.upstream is not None
        grace = max(settings.gc_grace, settings.upstream_keep) if caching else settings.gc_grace
        done = await collect(
            self.store, grace, settings.upload_expiry, untagged=caching, collect_engine=self._collect_engine
        )
        if done != Collected():
            self.log.info("garbage removed", blobs=done.blobs, bytes=done.space, uploads=done.uploads)
        return done


def _refused(request: Request, problem: Problem) -> Response:
    return Response(problem.status, problem.body(), {"content-type": JSON, **problem.headers})


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
