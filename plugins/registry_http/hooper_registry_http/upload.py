"""Blobs on their way up: in one request if they are small, else so that what has arrived need not be sent again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from hooper.api.errors import DataLoss, HooperError, Unavailable
from hooper.api.registry import Descriptor
from hooper_registry_http.endpoint import Endpoint
from hooper_registry_http.failures import check
from hooper_registry_http.scopes import push
from hooper_registry_http.transport import Backoff, may_be_tried_again, retry_after

if TYPE_CHECKING:
    import httpx

_SMALL = 1 << 20
"""Bytes up to which a blob goes up in one request."""
_UNRESUMABLE = (405, 415, 501)
Read = Callable[[int], AsyncIterator[bytes]]


class _BrokenOff(Exception):
    def __init__(self, error: HooperError, after: float = 0.0) -> None:
        super().__init__(error)
        self.error, self.after = error, after


class Upload:
    """One blob to one repository (distribution-spec, "Pushing blobs")."""

    def __init__(self, endpoint: Endpoint, repository: str, name: str, blob: Descriptor, read: Read) -> None:
        """`name` is the repository's, for messages; `read(offset)` gives the blob's bytes from there on."""
        self._endpoint, self._repository, self._blob, self._read = endpoint, repository, blob, read
        self._scopes = (push(repository),)
        self._name, self._what = name, f"blob {blob.digest} to {name}"
        self._location, self._offset = "", 0
        chunk = endpoint.config.chunk
        self._whole = blob.size <= min(_SMALL, chunk or _SMALL)

    async def run(self) -> None:
        """Unavailable once the retries are used up; DataLoss if the registry finds the blob damaged."""
        backoff, best = Backoff(self._endpoint.retries, patient=True), 0
        while True:
            try:
                if not self._location:
                    await self._start()
                await (self._put_whole() if self._whole else self._send_and_finish())
                return
            except _BrokenOff as broken:
                if not await backoff.wait(broken.after):
                    await self._cancel()
                    raise broken.error from None
                await self._find_out()
                if self._offset > best:
                    best = self._offset
                    backoff.progress()

    async def _start(self) -> None:
        response = await self._ask("POST", f"/v2/{self._repository}/blobs/uploads/", again=True)
        self._check(response, 202)
        self._offset = 0
        self._move(response)
        if not self._location:
            raise Unavailable(f"the registry {self._endpoint.host} failed with {self._what}", "it names no upload")

    async def _put_whole(self) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self._blob.size)}
        response = await self._ask("PUT", self._final, headers, content=lambda: self._read(0))
        if response.status_code == 404:
            self._location = ""
            raise _BrokenOff(self._failure(response))
        self._finished(response)

    async def _send_and_finish(self) -> None:
        while self._offset < self._blob.size:
            await self._send_some()
            if self._whole:
                return await self._put_whole()
        response = await self._ask("PUT", self._final, {"Content-Length": "0"})
        if response.status_code in (404, 416):
            self._location = ""
            raise _BrokenOff(self._failure(response))
        return self._finished(response)

    async def _send_some(self) -> None:
        start = self._offset
        end = min(self._blob.size, start + (self._endpoint.config.chunk or self._blob.size))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - start)}
        if start or end < self._blob.size:
            headers["Content-Range"] = f"{start}-{end - 1}"
        response = await self._ask("PATCH", self._location, headers, content=lambda: self._part(start, end))
        if response.status_code in _UNRESUMABLE and not start:
            self._whole = True
            return
        if response.status_code in (404, 416):
            if response.status_code == 404:
                self._location = ""
            raise _BrokenOff(self._failure(response))
        self._check(response, 202, 201, 204)
        self._move(response)
        self._offset = end

    async def _part(self, start: int, end: int) -> AsyncIterator[bytes]:
        async for chunk in self._read(start):
            yield chunk[: end - start]
            start += len(chunk)
            if start >= end:
                return

    async def _find_out(self) -> None:
        """How much has arrived; the upload begins anew where that is not known."""
        if not self._location:
            return
        if self._whole:
            await self._cancel()
            return
        try:
            response = await self._ask("GET", self._location, again=True)
        except Unavailable:
            self._location = ""
            return
        end = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("range", ""))
        if response.status_code not in (202, 204) or not end:
            self._location = ""
            return
        self._offset = int(end[1]) + 1
        self._move(response)
        # Of nothing some say "0-0", as of one byte: then it is not known either.
        if not 1 < self._offset <= self._blob.size:
            await self._cancel()

    async def _cancel(self) -> None:
        location, self._location = self._location, ""
        if location:
            try:
                await self._endpoint.request("DELETE", location, self._scopes, again=False)
            except HooperError:
                return  # its registry forgets it in time

    def _move(self, response: httpx.Response) -> None:
        self._location = response.headers.get("location") or self._location

    @property
    def _final(self) -> str:
        return f"{self._location}{'&' if '?' in self._location else '?'}digest={self._blob.digest}"

    async def _ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        *,
        content: Callable[[], AsyncIterator[bytes]] | None = None,
        again: bool = False,
    ) -> httpx.Response:
        try:
            response = await self._endpoint.request(method, target, self._scopes, headers, content=content, again=again)
        except Unavailable as error:
            if again:
                raise
            raise _BrokenOff(error) from error
        if not again and may_be_tried_again(response):
            raise _BrokenOff(self._failure(response), retry_after(response))
        return response

    def _failure(self, response: httpx.Response) -> HooperError:
        try:
            self._check(response)
        except HooperError as error:
            return error
        raise AssertionError(f"{response.status_code} is no failure")

    def _finished(self, response: httpx.Response) -> None:
        if response.status_code == 400 and "DIGEST_INVALID" in response.text:
            raise DataLoss(
                f"cannot push {self._what}", "it arrived damaged", "Try again; check the disk and the memory."
            )
        self._check(response, 201, 204)

    def _check(self, response: httpx.Response, *good: int) -> None:
        check(response, good, self._endpoint.host, self._name, self._what, pushing=True)
