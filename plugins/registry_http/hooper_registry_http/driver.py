"""The registry driver "http"."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hooper.api.driver import DriverContext
from hooper.api.registry import Credentials, RegistryClient, RegistryDriver
from hooper_registry_http.config import HttpConfig
from hooper_registry_http.transports import Transports


class HttpRegistry(RegistryDriver):
    """Registries of the OCI distribution protocol; the HTTP library is loaded with the first connection."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._config: HttpConfig = context.config or HttpConfig()
        self._transports = Transports(self._config)
        self._resting: dict[str, float] = {}
        """Mirrors that did not answer, and until when (monotonic seconds) they are not asked again."""

    @asynccontextmanager
    async def connect(self, host: str, credentials: Credentials | None) -> AsyncIterator[RegistryClient]:
        from hooper_registry_http.client import HttpClient

        client = HttpClient(host, credentials, self._config, self._transports, self._resting)
        try:
            yield client
        finally:
            client.close()

    async def aclose(self) -> None:
        """See Driver."""
        await self._transports.aclose()
