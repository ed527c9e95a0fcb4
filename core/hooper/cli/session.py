"""What every command gets: the daemon's address, and a client that connects when it is first used."""

from __future__ import annotations

import os

from hooper.client.address import Address, default_address, parse_address
from hooper.client.api import ApiClient


class Session:
    """One run of the command line. A daemon is started on demand only at the default address."""

    def __init__(self, host: str = "") -> None:
        chosen = host or os.environ.get("HOOPER_HOST", "")
        self.explicit = bool(chosen)
        self.address: Address = parse_address(chosen) if chosen else default_address()
        self._client: ApiClient | None = None

    @property
    def client(self) -> ApiClient:
        """The client; ConnectionFailed if no daemon answers and none can be started."""
        if self._client is None:
            from hooper.client.autostart import connect

            self._client = ApiClient(self.address, connect(self.address, start=not self.explicit))
        return self._client
