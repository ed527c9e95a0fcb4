"""HTTP to one registry: plain or verified, with retries, and errors that say which host and what happened."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import anyio

from hooper.api.errors import HooperError, Unavailable
from hooper.api.imports import import_without
from hooper_registry_http.config import HttpConfig, is_insecure, is_loopback

if TYPE_CHECKING:
    import httpx

_CONNECT = 5.0
_BUDGET = 12.0
"""Seconds within which a request is started again."""
_UPLOAD_ANSWER = 300.0
"""Seconds that a registry may take to verify what was uploaded."""
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_ENDPOINTS = {"docker.io": "registry-1.docker.io"}


class Backoff:
    """Whether and when to try again: a few times, and not long after the beginning, so that a registry that is dead
    is an error soon. `progress` begins anew; a `patient` one begins with the first failure."""

    def __init__(self, retries: int, *, patient: bool = False) -> None:
        self._retries, self._patient = retries, patient
        self.progress()

    def progress(self) -> None:
        self._failures, self._began = 0, anyio.current_time()

    async def wait(self, asked: float = 0.0) -> bool:
        """Sleeps before the next attempt (at least `asked` seconds, the registry's wish); False if there is none."""
        now = anyio.current_time()
        if self._patient and not self._failures:
            self._began = now
        self._failures += 1
        delay = max(asked, 0.1 * 2**self._failures * random.uniform(0.5, 1.0))
        if self._failures > self._retries or now + delay - self._began > _BUDGET:
            return False
        await anyio.sleep(delay)
        return True


def same_origin(a: httpx.URL, b: httpx.URL) -> bool:
    return (a.scheme, a.host, a.port) == (b.scheme, b.host, b.port)


class Transport:
    """Sends requests; `base` is the registry's URL.

    An insecure registry is spoken to by plain HTTP, or by unverified TLS if it answers nothing else.
    """

    def __init__(self, host: str, config: HttpConfig) -> None:
        import_without("httpx", "rich", "pygments")  # for a command line of its own: 5 MB
        import httpx

        self.host, self._config = host, config
        self._insecure = is_insecure(host, config)
        scheme = "http" if self._insecure else "https"
        self.base = httpx.URL(f"{scheme}://{_ENDPOINTS.get(host, host)}/")
        self._client = httpx.AsyncClient(
            verify=False if self._insecure else _tls(host, config),
            timeout=httpx.Timeout(config.timeout, connect=min(config.timeout, _CONNECT), pool=None),
            trust_env=not is_loopback(host),
            headers={"User-Agent": "hooper", "Accept-Encoding": "identity"},
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def settle_scheme(self) -> None:
        """Finds out whether an insecure registry wants TLS: asked for in plain HTTP, it answers 400 or nothing."""
        import httpx

        if not self._insecure or self.base.scheme == "https":
            return
        try:
            response = await self._client.get(self.base.join("/v2/"))
            wants_tls = response.status_code == 400
        except httpx.RemoteProtocolError:
            wants_tls = True
        except httpx.TransportError:
            return
        if wants_tls:
            self.base = self.base.copy_with(scheme="https")

    async def send(
        self,
        method: str,
        url: httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        content: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        stream: bool = False,
    ) -> httpx.Response:
        """The answer, whatever its status, after retries. With `stream` the body is still to be read and closed.

        Raises Unavailable once the retries are used up.
        """
        import httpx

        backoff = Backoff(self._config.retries, patient=callable(content))
        while True:
            request = self._request(method, url, headers or {}, form, content)
            try:
                response = await self._client.send(request, stream=stream)
            except httpx.TransportError as error:
                if not may_pass(error) or not await backoff.wait():
                    raise unavailable(url.netloc.decode(), error) from error
                continue
            if response.status_code not in _AGAIN or not await backoff.wait(_retry_after(response)):
                return response
            await response.aclose()

    def _request(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        form: Sequence[tuple[str, str]] | None,
        content: bytes | Callable[[], AsyncIterator[bytes]] | None,
    ) -> httpx.Request:
        import httpx

        headers = dict(headers)
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            content = urlencode(form).encode()
        body = content() if callable(content) else content
        request = self._client.build_request(method, url, headers=headers, content=body)
        if callable(content):
            limits = self._config.timeout
            timeout = httpx.Timeout(limits, connect=min(limits, _CONNECT), read=_UPLOAD_ANSWER, write=60.0, pool=None)
            request.extensions["timeout"] = timeout.as_dict()
        return request


def _retry_after(response: httpx.Response) -> float:
    try:
        return float(response.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0


def _tls(host: str, config: HttpConfig) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for certificate in sorted(Path(config.ca_dir, host).glob("*.crt")):
        context.load_verify_locations(certificate)
    return context


def _causes(error: BaseException) -> list[BaseException]:
    """The error, and all that it came from, down to the operating system's."""
    found: list[BaseException] = [error]
    for item in found:
        nested = item.exceptions if isinstance(item, BaseExceptionGroup) else ()
        for cause in (item.__cause__, item.__context__, *nested):
            if cause is not None and cause not in found:
                found.append(cause)
    return found


def may_pass(error: BaseException) -> bool:
    """Whether trying again makes sense: not for a name that does not exist, nor for a bad certificate."""
    return not any(isinstance(cause, socket.gaierror | ssl.SSLCertVerificationError) for cause in _causes(error))


def unavailable(host: str, error: BaseException) -> HooperError:
    """The kind that a failed connection comes to, with the true cause and what to do."""
    import httpx

    what = f"cannot reach the registry {host}"
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            remedy = "Put its CA as *.crt in the driver's ca_dir, or list the registry as insecure."
            return Unavailable(what, f"its certificate is not trusted ({cause.verify_message})", remedy)
        if isinstance(cause, socket.gaierror):
            return Unavailable(what, f"no such host ({cause.strerror})", "Check its name and this host's DNS.")
    if isinstance(error, httpx.TimeoutException):
        return Unavailable(what, "it did not answer in time", "Check the network, proxy and firewall; try again.")
    system = next((c for c in causes if isinstance(c, OSError) and c.strerror), None)
    if isinstance(system, ConnectionRefusedError):
        return Unavailable(what, "connection refused", "Check that it runs, and its port.")
    why = str(system.strerror if isinstance(system, OSError) else error) or type(error).__name__
    return Unavailable(what, why, "Check the network and try again.")
