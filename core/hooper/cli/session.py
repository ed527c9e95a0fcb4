"""What every command gets: the daemon's address, and a client that connects when it is first used."""

from __future__ import annotations

import os
import sys

from hooper.cli.errors import debugging
from hooper.client.address import Address, Tls, default_address, parse_address
from hooper.client.api import ApiClient
from hooper.client.home import chosen_context


class Session:
    """One run of the command line. A daemon is started on demand only at the default address.

    The daemon is that of `host`, else of the context `context`, else of HOOPER_HOST, DOCKER_HOST,
    HOOPER_CONTEXT, DOCKER_CONTEXT, the context that was chosen with `hooper context use`, else this host's own.
    """

    def __init__(self, host: str = "", context: str = "", tls: Tls | None = None) -> None:
        self._host, self._context, self._tls = host, context, tls
        self._address: Address | None = None
        self._client: ApiClient | None = None

    @property
    def context(self) -> str:
        """The name of the context in use; "default" also where an address was given."""
        if self._context or self._given_host():
            return self._context or "default"
        return os.environ.get("HOOPER_CONTEXT") or os.environ.get("DOCKER_CONTEXT") or chosen_context()

    @property
    def explicit(self) -> bool:
        """Whether the user said which daemon."""
        return bool(self._given_host()) or self.context != "default"

    @property
    def address(self) -> Address:
        """Where the daemon listens; InvalidArgument, NotFound for an unknown context."""
        if self._address is None:
            self._address = self._find()
        return self._address

    def _given_host(self) -> str:
        if self._host or self._context:
            return self._host
        return os.environ.get("HOOPER_HOST") or os.environ.get("DOCKER_HOST") or ""

    def _find(self) -> Address:
        if host := self._given_host():
            return parse_address(host, self._tls)
        if (name := self.context) == "default":
            return default_address()
        from hooper.client.contexts import load

        return load(name).address

    @property
    def client(self) -> ApiClient:
        """The client; ConnectionFailed if no daemon answers and none can be started."""
        if self._client is None:
            from hooper.client.autostart import connect

            self._client = ApiClient(self.address, connect(self.address, start=not self.explicit))
            if debugging():
                self._client.trace = lambda text: print(text, file=sys.stderr)
        return self._client
