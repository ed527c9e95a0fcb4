"""A proxy in front of a registry that spoils what passes: seeded, so that a run can be had again.

async with FaultProxy(upstream, random.Random(7)) as proxy:
    ...  # talk to proxy.host
    proxy.rate = 0.0  # from now on all goes well
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate

_BLOCK = 1 << 16
STATUSES = (401, 403, 404, 429, 500, 503)
FAULTS = (
    "cut", "cut_request", "stall", "pause", "length_less", "length_more", "damage", "digest", "status", "redirect",
    "loris", "no_range", "wrong_range",
)  # fmt: skip


@dataclass
class Message:
    """The head of a request or an answer; names are in lower case."""

    first: str
    headers: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    def put(self, name: str, value: str) -> None:
        self.headers = [pair for pair in self.headers if pair[0] != name]
        if value:
            self.headers.append((name, value))

    def encode(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Message | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    return Message(first, [(name.strip().lower(), value.strip()) for name, _, value in pairs])


class FaultProxy:
    """`rate` is the share of requests that go wrong; `done` counts what has gone wrong, and how.

    Redirects lead to a second port, another host for a client; `leaked` are the credentials that were sent to it.
    """

    def __init__(self, upstream: str, chance: random.Random, rate: float = 0.3, stall: float = 1.0) -> None:
        self._upstream, self._chance, self.rate, self._stall = upstream, chance, rate, stall
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.host = self.elsewhere = ""
        self.trusted = ""
        """What the second port shows the registry, as storage that has signed addresses."""
        self.done: Counter[str] = Counter()
        self.leaked: list[str] = []

    async def __aenter__(self) -> FaultProxy:
        for handler in (self._registry, self._storage):
            self._servers.append(await asyncio.start_server(handler, "127.0.0.1", 0, limit=_BLOCK * 4))
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        self.host, self.elsewhere = f"127.0.0.1:{ports[0]}", f"localhost:{ports[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _registry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._connection(reader, writer, redirects=True)

    async def _storage(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._connection(reader, writer, redirects=False)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, redirects: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Cancelled at the end alone, by whom nothing waits for any more.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._exchange(reader, writer, redirects=redirects)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, redirects: bool) -> None:
        request = await read_head(reader)
        if request is None:
            return
        if not redirects and (secret := request.get("authorization")):
            self.leaked.append(secret)
        fault = self._fault(request, redirects=redirects)
        if fault:
            self.done[fault] += 1
        if fault == "status":
            await self._refuse(reader, writer, request)
        elif fault == "redirect":
            location = f"http://{self.elsewhere}{request.first.split()[1]}"
            await self._answer(writer, f"HTTP/1.1 {self._chance.choice((301, 302, 307, 308))} Moved", location=location)
        else:
            await self._forward(reader, writer, request, fault, signed=not redirects)

    def _fault(self, request: Message, *, redirects: bool) -> str:
        if self._chance.random() >= self.rate:
            return ""
        fault = self._chance.choice(FAULTS)
        method = request.first.split()[0]
        reads = method == "GET" and "/v2/" in request.first and request.first.split()[1] != "/v2/"
        fits = {
            "redirect": redirects and reads,
            "cut_request": int(request.get("content-length") or 0) > 0,
            "no_range": bool(request.get("range")),
            "wrong_range": bool(request.get("range")),
            "digest": reads,
        }
        return fault if fits.get(fault, True) else ""

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Message) -> None:
        if request.get("content-length"):
            await reader.read(self._chance.randrange(1, _BLOCK))
        status = self._chance.choice(STATUSES)
        more = {}
        if status == 429:
            date = formatdate(usegmt=True)
            more["retry-after"] = self._chance.choice(("0", "1", "3600", date, "soon"))
        if status == 401:
            more["www-authenticate"] = self._chance.choice(
                ('Basic realm="x"', 'Bearer realm="http://[bad"', f'Bearer realm="http://{self.host}/token"', "")
            )
        await self._answer(writer, f"HTTP/1.1 {status} Spoiled", **{k.replace("-", "_"): v for k, v in more.items()})

    @staticmethod
    async def _answer(writer: asyncio.StreamWriter, first: str, **headers: str) -> None:
        answer = Message(first, [("connection", "close"), ("content-length", "0")])
        for name, value in headers.items():
            answer.put(name.replace("_", "-"), value)
        writer.write(answer.encode())
        await writer.drain()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: Message,
        fault: str,
        *,
        signed: bool,
    ) -> None:
        host, _, port = self._upstream.partition(":")
        there, back = await asyncio.open_connection(host, int(port), limit=_BLOCK * 4)
        try:
            request.put("connection", "close")
            if signed and self.trusted:
                request.put("authorization", self.trusted)
            if fault in ("no_range", "wrong_range"):
                request.put("range", "" if fault == "no_range" else "bytes=7-")
            back.write(request.encode())
            if not await self._send_body(reader, back, int(request.get("content-length") or 0), fault):
                return
            answer = await read_head(there)
            if answer is None:
                return
            answer.put("connection", "close")
            for name in ("www-authenticate", "location"):
                answer.put(name, answer.get(name).replace(self._upstream, self.host))
            await self._give(there, writer, answer, fault)
        finally:
            back.close()

    async def _send_body(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, size: int, fault: str) -> bool:
        left = self._chance.randrange(size) if fault == "cut_request" else size
        while left > 0:
            data = await reader.read(min(_BLOCK, left))
            if not data:
                return False
            back.write(data)
            await back.drain()
            left -= len(data)
        return fault != "cut_request"

    async def _give(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Message, fault: str
    ) -> None:
        size = int(answer.get("content-length") or 0)
        if fault == "length_less":
            answer.put("content-length", str(self._chance.randrange(size + 1)))
        elif fault == "length_more":
            answer.put("content-length", str(size + self._chance.randrange(1, 1000)))
        elif fault == "digest":
            answer.put("docker-content-digest", f"sha256:{'0' * 64}")
        whole = answer.encode()
        whole += await there.read()
        if fault == "damage" and size:
            spot = len(whole) - 1 - self._chance.randrange(size)
            whole = whole[:spot] + bytes([whole[spot] ^ 0xFF]) + whole[spot + 1 :] if spot >= 0 else whole
        await self._write(writer, whole, fault)

    async def _write(self, writer: asyncio.StreamWriter, whole: bytes, fault: str) -> None:
        if fault not in ("cut", "stall", "pause", "loris"):
            writer.write(whole)
            await writer.drain()
            return
        spot = self._chance.randrange(len(whole))
        writer.write(whole[:spot])
        await writer.drain()
        if fault == "loris":
            for offset in range(spot, min(spot + 100, len(whole))):
                writer.write(whole[offset : offset + 1])
                await writer.drain()
                await asyncio.sleep(self._stall / 10)
        elif fault in ("stall", "pause"):
            await asyncio.sleep(self._stall if fault == "stall" else self._stall / 20)
        if fault == "pause":
            writer.write(whole[spot:])
            await writer.drain()
