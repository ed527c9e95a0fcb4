"""Sessions of builds: how a client of hooper's serves the streams that a build asks it for.

A session is one control connection, on which the daemon says which streams it wants, and one connection of its own
for each of them, dialled by the client. Nothing is multiplexed, so the kernel does the flow control, and a
stream costs no copy. All are requests of the Engine API (with or without a version's prefix):

1. The client makes up the session's id: 32 hexadecimal digits, lower case, random. It opens the control
   connection and keeps it as long as it serves the session::

       POST /hooper/builds/sessions/ID           Connection: Upgrade, Upgrade: tcp
       <- 101 UPGRADED (as for attach; 200 if no upgrade was asked for)

   From then on `POST /build?session=ID` finds the session; with `remote=hooper-session` the session's context ""
   is the build's context. Builds may share a session, one after the other or side by side.

2. The daemon writes one JSON object a line, ended by a newline, for every stream that it wants. Numbers count from 1
   in a session::

       {"stream":1,"kind":"secret","name":"npmrc","parameters":{}}

   `kind` and `name` are those of `hooper.api.build_session.BuildSession`; `parameters` are strings by name. The client
   writes nothing on the control connection (what it writes is ignored). It ignores members that it does not know.

3. The client answers each, at once and in any order, in one of two ways. It takes it::

       POST /hooper/builds/sessions/ID/streams/1        Connection: Upgrade, Upgrade: tcp
       <- 101 UPGRADED; from here on, the raw stream in both directions

   and sends the first byte of the stream only when it has read the whole head of the answer; each side may close its
   half. Or it refuses it, also for a kind that it does not know, with a reason for people::

       POST /hooper/builds/sessions/ID/streams/1/refuse     {"message": "no secret of that name was given"}
       <- 204

   The build sees NotFound with that reason.

4. The session ends with its control connection, whoever closes it, in whichever direction. Streams that are wanted
   and not taken by then fail (Unavailable); those that are open stay until their ends close them.

Errors are those of the Engine API, {"message": …}: 400 for an id or number that is malformed; 404 for a session
that is not there, and for a stream that nobody waits for (taken, refused, too late after `DIAL_SECONDS`, or its
build was cancelled: the client goes on); 409 for an id in use; 503 where there are `MAX_SESSIONS`.
"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import anyio
import msgspec

from hooper.api.build_session import BuildSession
from hooper.api.engine import Engine
from hooper.api.errors import Conflict, InvalidArgument, NotFound, Unavailable
from hooper_api_docker.bodies import read_json
from hooper_api_docker.http import Request, Response
from hooper_api_docker.sockets import Transport
from hooper_api_docker.streams import RAW

DIAL_SECONDS = 30.0
"""How long a client has to take or refuse a stream."""
MAX_SESSIONS = 1000
MAX_WAITING = 64
"""Streams of one session that are wanted and not yet taken. More of them wait for their turn."""
_ID = re.compile(r"[0-9a-f]{32}")
_NO_CONTENT = Response(204)


class _Refusal(msgspec.Struct):
    message: str = ""


_refusal = msgspec.json.Decoder(_Refusal)


class _Wanted:
    """A stream that a build waits for. In the end it is taken or refused, its session is over, or nobody waits."""

    def __init__(self) -> None:
        self.settled = anyio.Event()
        self.taken: socket.socket | None = None
        self.refusal = ""
        self.lost = False

    def take(self, connection: socket.socket) -> None:
        if self.settled.is_set():
            connection.close()
        else:
            self.taken = connection
            self.settled.set()

    def refuse(self, reason: str) -> None:
        self.refusal = reason
        self.settled.set()

    def lose(self) -> None:
        self.lost = True
        self.settled.set()


class EngineSession(BuildSession):
    """The daemon's end of a session."""

    def __init__(self) -> None:
        # A client that does not read adds no more than what is waited for: `MAX_WAITING` in `DIAL_SECONDS`.
        self._tell, self._told = anyio.create_memory_object_stream[bytes](math.inf)
        self._turns = anyio.Semaphore(MAX_WAITING)
        self._wanted: dict[int, _Wanted] = {}
        self._last = 0
        self._over = False

    async def open(self, kind: str, name: str, parameters: Mapping[str, str] | None = None) -> socket.socket:
        """See BuildSession. Unavailable also if the client lets it wait for `DIAL_SECONDS`."""
        what = f'{kind} "{name}"' if name else kind
        async with self._turns:
            with self._want(kind, name, parameters or {}) as wanted, anyio.move_on_after(DIAL_SECONDS):
                await wanted.settled.wait()
        if wanted.taken:
            return wanted.taken
        if wanted.refusal:
            raise NotFound(what, wanted.refusal)
        if wanted.lost:
            raise Unavailable(what, "the client is gone")
        raise Unavailable(what, f"the client has not sent it within {DIAL_SECONDS:.0f} seconds", "Build again.")

    @contextmanager
    def _want(self, kind: str, name: str, parameters: Mapping[str, str]) -> Iterator[_Wanted]:
        wanted = _Wanted()
        if self._over:
            wanted.lose()
            yield wanted
            return
        self._last = number = self._last + 1
        self._wanted[number] = wanted
        line = {"stream": number, "kind": kind, "name": name, "parameters": parameters}
        self._tell.send_nowait(msgspec.json.encode(line) + b"\n")
        try:
            yield wanted
        except BaseException:
            if wanted.taken:
                wanted.taken.close()
            raise
        finally:
            self._wanted.pop(number, None)
            # Whoever is about to take it closes it.
            wanted.settled.set()

    def claim(self, number: int) -> _Wanted:
        """A stream that is waited for, which nobody else can claim then. NotFound."""
        found = self._wanted.pop(number, None)
        if found is None:
            raise NotFound(f"stream {number} of the build session", "nobody waits for it")
        return found

    async def serve(self, transport: Transport) -> None:
        """Tells the client what is wanted, until it closes."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._write, transport)
            while await transport.receive():
                pass
            group.cancel_scope.cancel()

    async def _write(self, transport: Transport) -> None:
        async for line in self._told:
            await transport.send(line)

    def end(self) -> None:
        """Nothing is wanted any more."""
        self._over = True
        for wanted in self._wanted.values():
            wanted.lose()
        self._tell.close()
        self._told.close()


_sessions: dict[str, EngineSession] = {}
"""Of this process, by the client's id."""


def find_session(identifier: str) -> EngineSession:
    """InvalidArgument, NotFound."""
    found = _sessions.get(_checked(identifier))
    if found is None:
        raise NotFound(
            f"build session {identifier}", "it is not there, or over", "Open its control connection first, and keep it."
        )
    return found


def _checked(identifier: str) -> str:
    if not _ID.fullmatch(identifier):
        raise InvalidArgument(
            f'invalid build session "{identifier[:64]}"', "its id is not 32 hexadecimal digits in lower case"
        )
    return identifier


async def control(engine: Engine, request: Request, identifier: str) -> None:
    """Opens a session; it lasts as long as the connection."""
    if _checked(identifier) in _sessions:
        raise Conflict(f"cannot open build session {identifier}", "it is open", "Make up another id.")
    if len(_sessions) >= MAX_SESSIONS:
        raise Unavailable("cannot open a build session", f"{MAX_SESSIONS} are open", "Try again later.")
    session = _sessions[identifier] = EngineSession()
    try:
        connection, _ = await request.hijack(RAW)
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await session.serve(Transport(connection))
    finally:
        del _sessions[identifier]
        session.end()


async def take(engine: Engine, request: Request, identifier: str, number: str) -> None:
    """Gives the connection to the build that waits for the stream."""
    wanted = _claim(identifier, number)
    try:
        connection, received = await request.hijack(RAW)
    except BaseException:
        wanted.lose()
        raise
    if received:
        connection.close()
        wanted.refuse("the client sent before it had the head of the answer")
    else:
        wanted.take(connection)


async def refuse(engine: Engine, request: Request, identifier: str, number: str) -> Response:
    """Tells the build that waits for the stream that there is none."""
    reason = (await read_json(request, _refusal)).message
    _claim(identifier, number).refuse(reason or "the client has none, and gives no reason")
    return _NO_CONTENT


def _claim(identifier: str, number: str) -> _Wanted:
    session = find_session(identifier)
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise InvalidArgument(f'invalid stream "{number[:64]}"', "it is not a number")
    return session.claim(int(number))
