"""The client's side of a build: what the daemon asks for while it goes on, served from threads.

The daemon says on a control connection which streams it wants; each is a connection of its own that this side dials.
Whoever serves a kind of stream is a `Handler`: it looks the name up, raises HooperError if there is nothing of that
name, which is told to the build, and returns what then serves the stream.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from hooper.api.errors import HooperError, NotFound
from hooper.client.api import ApiClient
from hooper.client.errors import ApiError, ConnectionFailed
from hooper.client.http import Response, Wire

Serve = Callable[[socket.socket], None]
"""Gets a connected, blocking socket, which is closed when it returns."""
Handler = Callable[[str, Mapping[str, str]], Serve]
_MOST, _BLOCK = 1 << 20, 1 << 18
_PATIENCE = 2.0


class _Unbuffered(Wire):
    """Reads no byte beyond the head of an answer: what follows belongs to whoever serves the stream."""

    def read_line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            data = self.socket.recv(1)
            if not data or len(line) > _MOST:
                raise ConnectionFailed("the daemon closed the connection in the middle of its answer")
            line += data
        return bytes(line).rstrip(b"\r\n")


def dial(client: ApiClient, path: str) -> socket.socket:
    """A connection that the daemon has turned into a raw stream. ApiError, ConnectionFailed."""
    wire = _Unbuffered(client.address.connect())
    fields = {"Host": client.address.http_host, "User-Agent": "hooper", "Connection": "Upgrade", "Upgrade": "tcp"}
    try:
        wire.send_request("POST", client.prefix + path, fields, b"")
        answer = Response(wire, "POST")
        if answer.status in (101, 200):
            return wire.socket
        text = answer.read()
    except BaseException:
        wire.close()
        raise
    wire.close()
    raise ApiError(answer.status, _message(text) or f"the daemon answered {answer.status}")


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace").strip()


class ServedSession:
    """A session as long as the block lasts. `id` is what the build is given."""

    def __init__(self, client: ApiClient, handlers: Mapping[str, Handler]) -> None:
        self.id = os.urandom(16).hex()
        self._client, self._handlers = client, handlers
        self._path = f"/hooper/builds/sessions/{self.id}"
        self._control: socket.socket | None = None
        self._listener: threading.Thread | None = None
        self._serving_now: dict[threading.Thread, socket.socket | None] = {}
        self._lock = threading.Lock()
        self._ended = False

    def __enter__(self) -> ServedSession:
        self._control = dial(self._client, self._path)
        self._listener = threading.Thread(target=self._listen, args=(self._control,), daemon=True)
        self._listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends what is still served, and lets it put its things in order."""
        if self._control and self._listener:
            _shut(self._control)
            self._listener.join()
            self._control.close()
        with self._lock:
            self._ended = True
            left = dict(self._serving_now)
            for stream in left.values():
                _shut(stream)
        for thread in left:
            thread.join(_PATIENCE)

    def _listen(self, control: socket.socket) -> None:
        for line in _lines(control):
            wanted = json.loads(line)
            thread = threading.Thread(target=self._answer, args=(wanted,), daemon=True)
            with self._lock:
                self._serving_now[thread] = None
            thread.start()

    def _answer(self, wanted: Mapping[str, Any]) -> None:
        path = f"{self._path}/streams/{int(wanted['stream'])}"
        client = self._client.sibling()
        try:
            try:
                serve = self._serving(wanted)
            except (HooperError, OSError) as error:
                client.post(f"{path}/refuse", {"message": _told(error)})
                return
            with dial(client, path) as stream:
                with self._lock:
                    self._serving_now[threading.current_thread()] = stream
                    if self._ended:  # while it was opened
                        _shut(stream)
                serve(stream)
        except (HooperError, OSError):
            # The daemon, which is the other end of all this, tells how the build went.
            return
        finally:
            client.close()
            with self._lock:
                del self._serving_now[threading.current_thread()]

    def _serving(self, wanted: Mapping[str, Any]) -> Serve:
        kind, name = str(wanted["kind"]), str(wanted["name"])
        if kind not in self._handlers:
            raise NotFound(f'no {kind} "{name}" was given to the build')
        return self._handlers[kind](name, wanted.get("parameters") or {})


def _shut(stream: socket.socket | None) -> None:
    if stream is not None:
        with suppress(OSError):  # it is over already
            stream.shutdown(socket.SHUT_RDWR)


def _lines(control: socket.socket) -> Iterable[bytes]:
    """The lines that come, until the connection ends."""
    pending = b""
    while True:
        try:
            data = control.recv(65536)
        except OSError:
            return
        if not data:
            return
        *whole, pending = (pending + data).split(b"\n")
        yield from whole


def _told(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def kept(keep: Callable[[socket.socket], None]) -> Serve:
    """Serves a stream from the daemon: what goes wrong with keeping it is said on it, for the build to fail by."""

    def serve(stream: socket.socket) -> None:
        try:
            keep(stream)
        except (HooperError, OSError) as error:
            stream.sendall(_told(error).encode("utf-8", "backslashreplace"))
            stream.shutdown(socket.SHUT_WR)
            _drain(stream)

    return serve


def _drain(stream: socket.socket) -> None:
    """Reads on for a moment: a connection that is closed with something unread takes along what was said on it."""
    deadline = time.monotonic() + _PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        stream.settimeout(left)
        if not stream.recv(_BLOCK):
            return
