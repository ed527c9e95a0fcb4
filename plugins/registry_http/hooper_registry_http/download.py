"""Blobs on their way down: taken up again where they broke off, from the next place if one gives up."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio

from hooper.api.errors import DataLoss, HooperError, Unavailable
from hooper.api.registry import Descriptor
from hooper_registry_http.bodies import pieces
from hooper_registry_http.endpoint import Endpoint
from hooper_registry_http.failures import check, may_pass, unavailable
from hooper_registry_http.scopes import pull
from hooper_registry_http.transport import Backoff

if TYPE_CHECKING:
    import httpx

_PROGRESS = 128 * 1024
"""Bytes that count as getting on, so that failures before them are forgotten."""
_WINDOW = 4
"""Times `timeout` over which the rate of a download is measured."""
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Download:
    """One blob from `position` on. `places` are tried in order."""

    def __init__(self, places: list[tuple[Endpoint, str]], name: str, blob: Descriptor, position: int) -> None:
        """`places` has each endpoint with what the repository is called there; `name` is for messages."""
        self._places, self._name, self._blob = places, name, blob
        self._position = position
        self._ranged = True
        self._response: httpx.Response | None = None

    async def aclose(self) -> None:
        if self._response is not None:
            with anyio.CancelScope(shield=True):
                await self._response.aclose()
            self._response = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Unavailable once nothing more is to be had; DataLoss if there is more than the blob's size."""
        for index, (endpoint, repository) in enumerate(self._places):
            last = index == len(self._places) - 1
            try:
                async for chunk in self._from(endpoint, repository):
                    yield chunk
                return
            except DataLoss:
                raise
            except HooperError as error:
                if last:
                    raise
                endpoint.failure = error if isinstance(error, Unavailable) else endpoint.failure

    async def _from(self, endpoint: Endpoint, repository: str) -> AsyncIterator[bytes]:
        import httpx

        backoff, gained = Backoff(endpoint.retries), 0
        while self._position < self._blob.size:
            problem: Exception
            try:
                self._response = await self._open(endpoint, repository)
                async for chunk in self._body(self._response, endpoint):
                    gained += len(chunk)
                    self._advance(len(chunk))
                    if gained >= _PROGRESS:
                        backoff.progress()
                    yield chunk
                problem = httpx.RemoteProtocolError("the answer was too short")
            except (httpx.TransportError, OSError) as error:
                problem = error
            await self.aclose()
            gained = 0
            if self._position < self._blob.size and (not may_pass(problem) or not await backoff.wait()):
                raise unavailable(endpoint.host, problem) from problem

    async def _open(self, endpoint: Endpoint, repository: str) -> httpx.Response:
        headers = {"Range": f"bytes={self._position}-"} if self._position and self._ranged else {}
        url = f"/v2/{repository}/blobs/{self._blob.digest}"
        response = await endpoint.request("GET", url, (pull(repository),), headers, stream=True)
        if response.status_code == 416 and headers:
            self._ranged = False
            return await self._open(endpoint, repository)
        check(response, (200, 206), endpoint.host, self._name, f"blob {self._blob.digest} of {self._name}")
        return response

    async def _body(self, response: httpx.Response, endpoint: Endpoint) -> AsyncIterator[bytes]:
        """What follows the position; a registry that ignores ranges sends from the beginning."""
        skip = self._position - self._start(response)
        rate = _Rate(endpoint.config.min_rate, _WINDOW * endpoint.config.timeout)
        coming = aiter(pieces(response, endpoint.config.timeout))
        while (chunk := await rate.measured(coming)) is not None:
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            yield chunk[skip:] if skip else chunk
            skip = 0

    def _start(self, response: httpx.Response) -> int:
        """Where the answer begins."""
        import httpx

        if response.status_code != 206:
            return 0
        found = _RANGE.match(response.headers.get("content-range", ""))
        start = int(found[1]) if found else self._position
        if start > self._position:
            self._ranged = False
            raise httpx.RemoteProtocolError("the answer was for another range")
        return start

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position > self._blob.size:
            raise DataLoss(
                f"blob {self._blob.digest} is larger than the {self._blob.size} bytes of its descriptor",
                remedy="Push the image again.",
            )


class _Rate:
    """Ends a connection that gives hardly anything, but that often enough to never time out."""

    def __init__(self, minimum: int, window: float) -> None:
        self._wanted, self._window = minimum * window, window
        self._waited, self._bytes = 0.0, 0

    async def measured(self, coming: AsyncIterator[bytes]) -> bytes | None:
        """The next chunk, None at the end. Only the time counts that the registry takes for it."""
        import httpx

        began = anyio.current_time()
        chunk = await anext(coming, None)
        self._waited += anyio.current_time() - began
        self._bytes += len(chunk or b"")
        if self._bytes >= self._wanted:
            self._waited, self._bytes = 0.0, 0
        elif self._waited > self._window:
            raise httpx.ReadTimeout(f"it gave {self._bytes} bytes in {self._waited:.0f} s")
        return chunk
