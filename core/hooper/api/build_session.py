"""What a build asks of its client while it goes on: contexts, secrets, agents; and where it sends its outcome.

All of them are streams of bytes that the daemon opens and the client serves, whatever carries them: connections of
the Engine API, or the gRPC of BuildKit's sessions.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping


class BuildSession(ABC):
    """The client's side of one build.

    Kinds of stream:

    - "secret", ID: the client sends the secret and closes.
    - "ssh", ID: a connection to an agent.
    - "context", NAME: a directory, by `hooper.api.context_sync`.
    - "output", NUMBER: the daemon sends a tar and closes; the client closes when it has kept it, or says why it
      could not and closes. Of a build that fails it keeps nothing: a tar may have been cut off.
    - "cache-in", NUMBER and "cache-out", NUMBER: an OCI layout as a tar, from and to a directory of the client's.
    """

    @abstractmethod
    async def open(self, kind: str, name: str, parameters: Mapping[str, str] | None = None) -> socket.socket:
        """A connected stream socket, not blocking, the caller's.

        NotFound if the client has nothing of that name, with its reason; Unavailable if it is gone.
        """


class NoSession(BuildSession):
    """Of a client that has none: docker's classic builder, docker-py."""

    async def open(self, kind: str, name: str, parameters: Mapping[str, str] | None = None) -> socket.socket:
        """See BuildSession. Always NotFound."""
        from hooper.api.errors import NotFound

        raise NotFound(f'{kind} "{name}"', "this client sends none", "Build with `hooper build`, which can.")
