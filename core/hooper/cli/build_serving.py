"""What `hooper build` serves the daemon while a build goes on: its secrets, agents, contexts, outputs and caches."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from hooper.api.errors import InvalidArgument, NotFound
from hooper.cli import terminal
from hooper.cli.build_context import Source, patterns_of
from hooper.cli.build_flags import Secret
from hooper.cli.build_outputs import STDOUT, Output
from hooper.cli.build_request import BuildFlags
from hooper.cli.errors import warn
from hooper.client.build_session import Handler, Serve, kept

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from hooper.api.patterns import Patterns

T = TypeVar("T")
SECRET_MOST = 500 * 1024
"""Bytes of a secret, as in BuildKit."""


class Serving:
    """All of it for one build; `handlers` is for a session. Agents for keys live as long as the block."""

    def __init__(self, flags: BuildFlags, source: Source) -> None:
        self._flags, self._source = flags, source
        self._agents: dict[str, str] = {}
        self._open = ExitStack()
        self.sent = 0
        """Bytes of contexts that went to the daemon so far."""
        self.left_out = 0

    def __enter__(self) -> Serving:
        try:
            for name, paths in self._flags.agents.items():
                self._agents[name] = self._agent(paths)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    @property
    def needed(self) -> bool:
        """Whether the build asks for anything."""
        flags = self._flags
        caches = any(one.place for one in [*flags.cache_from, *flags.cache_to])
        local = caches or any(one.place for one in flags.contexts.values())
        away = any(not one.is_image for one in flags.outputs)
        return bool(self._source.directory or flags.secrets or flags.agents or local or away)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """By kind of stream."""
        return {
            "secret": self._secret,
            "ssh": self._ssh,
            "context": self._context,
            "output": self._output,
            "cache-in": self._cache_in,
            "cache-out": self._cache_out,
        }

    def _agent(self, paths: Sequence[str]) -> str:
        """The socket of an agent: the user's, or one for these keys."""
        import stat

        if stat.S_ISSOCK(os.stat(paths[0]).st_mode):
            return paths[0]
        from hooper.client.ssh_agents import KeyAgent

        agent = KeyAgent(paths)
        self._open.callback(agent.close)
        return agent.socket

    def _secret(self, name: str, _: Mapping[str, str]) -> Serve:
        known = self._flags.secrets.get(name)
        if known is None:
            raise NotFound(f'no secret "{name}" was given to the build')
        content = _secret_content(name, known)
        return lambda stream: stream.sendall(content)

    def _ssh(self, name: str, _: Mapping[str, str]) -> Serve:
        from hooper.client.ssh_agents import forward

        agent = self._agents.get(name)
        if agent is None:
            raise NotFound(f'no SSH agent "{name}" was given to the build')
        return lambda stream: forward(stream, agent)

    def _context(self, name: str, _: Mapping[str, str]) -> Serve:
        from hooper.api.patterns import Patterns

        source = self._source if name == "" else None
        if known := self._flags.contexts.get(name):
            source = Source(directory=known.place)
        if source is None or not source.directory:
            raise NotFound(f'no context "{name}" was given to the build')
        layout = known is not None and known.kind == "oci-layout"
        ignore = Patterns(()) if layout else patterns_of(source)
        return lambda stream: self._send_context(stream, name, source, ignore)

    def _send_context(self, stream: socket.socket, name: str, source: Source, ignore: Patterns) -> None:
        from hooper.api.context_sync import serve

        always, extra = source.always(), source.extra_files()
        with _Counted(stream, self) as counted:
            serve(counted, source.directory, ignore, name=name, always=always, extra=extra)

    def _output(self, name: str, _: Mapping[str, str]) -> Serve:
        output = _numbered(self._flags.outputs, name)
        if output is None or output.is_image:
            raise NotFound(f"there is no output number {name}")
        return kept(lambda stream: self._keep(output, stream))

    def _keep(self, output: Output, stream: socket.socket) -> None:
        from hooper.client import unpacking

        with stream.makefile("rb") as archive:
            if output.unpacked:
                self.left_out += unpacking.keep_tree(archive, output.dest)
            elif output.dest == STDOUT:
                with open(terminal.STDOUT, "wb", closefd=False) as stdout:
                    unpacking.copy_archive(archive, stdout)
            else:
                unpacking.keep_archive(archive, output.dest)

    def _cache_in(self, name: str, _: Mapping[str, str]) -> Serve:
        cache = _numbered(self._flags.cache_from, name)
        if cache is None or not cache.place:
            raise NotFound(f"there is no local cache number {name}")
        if not os.path.isfile(os.path.join(cache.place, "index.json")):
            raise NotFound(f"{cache.place} has no cache", "it has no index.json")
        return lambda stream: _send(stream, cache.place)

    def _cache_out(self, name: str, _: Mapping[str, str]) -> Serve:
        cache = _numbered(self._flags.cache_to, name)
        if cache is None or not cache.place:
            raise NotFound(f"there is no local cache number {name}")
        return kept(lambda stream: _keep_cache(stream, cache.place))

    def warn(self) -> None:
        """Tells what could not be kept."""
        if self.left_out:
            warn(f"{self.left_out} devices were left out of the output")


class _Counted(socket.socket):
    """A connection, taken over, of which the bytes that go out are counted."""

    def __init__(self, stream: socket.socket, serving: Serving) -> None:
        super().__init__(fileno=os.dup(stream.fileno()))
        self._serving = serving

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """See socket.socket."""
        count = super().send(data, flags)
        self._serving.sent += count
        return count


def _secret_content(name: str, secret: Secret) -> bytes:
    if secret.variable:
        content = os.environb.get(os.fsencode(secret.variable), b"")
    else:
        with open(secret.file, "rb") as file:
            content = file.read(SECRET_MOST + 1)
    if len(content) > SECRET_MOST:
        raise InvalidArgument(f'the secret "{name}" is too large', f"{SECRET_MOST} bytes are the most")
    return content


def _numbered(items: Sequence[T], name: str) -> T | None:
    return items[int(name)] if name.isdigit() and int(name) < len(items) else None


def _send(stream: socket.socket, directory: str) -> None:
    from hooper.client.unpacking import send_layout

    with stream.makefile("wb") as file:
        send_layout(directory, file)


def _keep_cache(stream: socket.socket, directory: str) -> None:
    from hooper.client.unpacking import keep_layout

    with stream.makefile("rb") as archive:
        keep_layout(archive, directory)
