"""Requests to one registry, as whoever we are to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from hooper.api.errors import HooperError, InvalidArgument, Unavailable
from hooper.api.manifests import NO_JSON
from hooper.api.registry import Credentials
from hooper_registry_http.auth import Authenticator
from hooper_registry_http.config import HttpConfig
from hooper_registry_http.transport import Content, Transport, same_origin
from hooper_registry_http.transports import Transports

if TYPE_CHECKING:
    import httpx

_REDIRECTS = 5
_CHALLENGES = 2
"""For who we are, and for a token that is no longer good."""


class Endpoint:
    """Connections, scheme and tokens are found out at the first request and kept."""

    def __init__(
        self,
        host: str,
        scheme: str,
        credentials: Credentials | None,
        config: HttpConfig,
        transports: Transports,
        *,
        retries: int | None = None,
    ) -> None:
        self.host, self.config, self._transports = host, config, transports
        self._scheme, self._credentials, self._retries = scheme, credentials, retries
        self._opened: tuple[Transport, Authenticator] | None = None
        self.failure: HooperError | None = None
        """Why it was given up for this conversation."""

    def close(self) -> None:
        if self._opened:
            self._transports.give_back(self._opened[0])
            self._opened = None

    @property
    def retries(self) -> int:
        return self.config.retries if self._retries is None else self._retries

    async def open(self) -> tuple[Transport, Authenticator]:
        if self._opened is None:
            transport = self._transports.take(self.host, self._scheme, self._retries)
            credentials = self._credentials or _configured(self.host, self.config)
            self._opened = transport, Authenticator(self.host, credentials, transport)
        await self._opened[0].settle_scheme()
        return self._opened

    async def request(
        self,
        method: str,
        target: str,
        scopes: Sequence[str],
        headers: dict[str, str] | None = None,
        *,
        content: Content | None = None,
        stream: bool = False,
        again: bool = True,
    ) -> httpx.Response:
        """Follows redirects of what only reads, and answers challenges. Credentials go to the registry's own origin
        alone. Unavailable once the retries are used up; another host's refusal counts as such, too."""
        transport, auth = await self.open()
        url, redirects, challenges = self._joined(transport.base, target), 0, 0
        while True:
            sent = {**(headers or {}), **await auth.headers(url, scopes)}
            response = await transport.send(method, url, headers=sent, content=content, stream=stream, again=again)
            own = same_origin(url, transport.base)
            if response.status_code == 401 and own and challenges < _CHALLENGES and auth.challenged(response, scopes):
                challenges += 1
                await response.aclose()
            elif response.has_redirect_location and method in ("GET", "HEAD") and redirects < _REDIRECTS:
                url, redirects = self._joined(url, response.headers["location"]), redirects + 1
                await response.aclose()
            elif not own and response.status_code in (401, 403, 404):
                raise self._refused_elsewhere(url, response.status_code)
            else:
                return response

    def _joined(self, base: httpx.URL, target: str) -> httpx.URL:
        import httpx

        try:
            url = base.join(target)
        except (httpx.InvalidURL, ValueError) as error:
            raise Unavailable(f"the registry {self.host} names a bad place", str(error)) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise Unavailable(f"the registry {self.host} names a bad place", f"{url} is not on the web")
        return url

    def _refused_elsewhere(self, url: httpx.URL, status: int) -> HooperError:
        return Unavailable(
            f"the registry {self.host} could not give this",
            f"the host {url.host} that it sends us to answers {status}",
            "Try again; if that does not help, tell its operator.",
        )

    def decode(self, response: httpx.Response, wanted: Any) -> Any:
        """The JSON of an answer. Unavailable if it is none, or of another shape."""
        try:
            return msgspec.json.decode(response.content, type=wanted)
        except NO_JSON as error:
            raise Unavailable(f"the registry {self.host} gave a damaged answer", str(error)) from error


def _configured(host: str, config: HttpConfig) -> Credentials | None:
    """What `username` and `password_file` of its table say."""
    own = config.of(host)
    if not own.username:
        return None
    try:
        with open(own.password_file, encoding="utf-8") as file:
            return Credentials(own.username, file.read().strip("\r\n"))
    except (OSError, ValueError) as error:
        raise InvalidArgument(
            f"cannot read the password for {host}", f"{own.password_file}: {error}", "Correct password_file."
        ) from error
