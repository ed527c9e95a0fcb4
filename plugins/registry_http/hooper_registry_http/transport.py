"""HTTP to one registry: plain or verified, with retries and bounds on time and size."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import anyio

from hooper.api.errors import InvalidArgument, Unavailable
from hooper.api.imports import import_without
from hooper_registry_http.bodies import READ
from hooper_registry_http.config import HttpConfig, is_insecure, is_loopback
from hooper_registry_http.failures import may_pass, unavailable
from hooper_registry_http.proxies import proxy_for
from hooper_registry_http.tls import make_context

if TYPE_CHECKING:
    import httpx

_CONNECT = 5.0
_BUDGET = 12.0
"""Seconds within which a request is started again."""
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_ENDPOINTS = {"docker.io": "registry-1.docker.io"}
BODY_MAX = 8 * 1024 * 1024
"""Bytes of an answer that is not a blob."""
_PATIENCE = 4
"""Times `timeout` that the head of an answer may take, and twice that for its body, if it is no blob."""
Content = bytes | Callable[[], AsyncIterator[bytes]]


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


def names_of(host: str) -> Sequence[str]:
    """By which names a registry is known: that in references, and that of its server."""
    return (host, _ENDPOINTS[host]) if host in _ENDPOINTS else (host,)


def same_origin(a: httpx.URL, b: httpx.URL) -> bool:
    return (a.scheme, a.host, a.port) == (b.scheme, b.host, b.port)


def may_be_tried_again(response: httpx.Response) -> bool:
    return response.status_code in _AGAIN


class Transport:
    """Sends requests; `base` is the registry's URL.

    An insecure registry is spoken to by plain HTTP, or by unverified TLS if it answers nothing else.
    """

    def __init__(self, host: str, config: HttpConfig, *, scheme: str = "", retries: int | None = None) -> None:
        import_without("httpx", "rich", "pygments")  # for a command line of its own: 5 MB
        from http.cookiejar import CookieJar, DefaultCookiePolicy

        import httpcore
        import httpx

        # What the library usually asks for is cut out of that, with a copy of the rest each time.
        httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = READ
        self.host, self._config = host, config
        self.retries = config.retries if retries is None else retries
        insecure = is_insecure(host, config)
        self._finds_out = insecure and not scheme
        self._settled = not self._finds_out
        self.base = httpx.URL(f"{scheme or ('http' if insecure else 'https')}://{_ENDPOINTS.get(host, host)}/")
        proxy = proxy_for(host, self.base.scheme, config)
        try:
            self._client = httpx.AsyncClient(
                verify=make_context(names_of(host), config, verified=not insecure),
                timeout=httpx.Timeout(config.timeout, connect=min(config.timeout, _CONNECT), pool=None),
                proxy=proxy or None,
                trust_env=proxy is None and not is_loopback(host),
                headers={"User-Agent": "hooper", "Accept-Encoding": "identity"},
                # Conversations of several users share it: what a registry sets for one is not for the next.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            )
        except (ValueError, ImportError) as error:
            raise InvalidArgument(f"cannot use the proxy for {host}", str(error), "Write http://HOST:PORT.") from error

    async def aclose(self) -> None:
        await self._client.aclose()

    async def settle_scheme(self) -> None:
        """Finds out whether an insecure registry wants TLS: asked for in plain HTTP, it answers 400 or nothing. One
        that cannot be reached is asked again the next time."""
        if self._settled:
            return
        import httpx

        plain = self.base.copy_with(scheme="http")
        try:
            with anyio.fail_after(self._config.timeout):
                async with self._client.stream("GET", plain.join("/v2/")) as response:
                    wants_tls = response.status_code == 400
        except httpx.RemoteProtocolError:
            wants_tls = True
        except (httpx.TransportError, OSError):
            return
        self._settled = True
        self.base = plain.copy_with(scheme="https") if wants_tls else plain

    async def send(
        self,
        method: str,
        url: httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        content: Content | None = None,
        stream: bool = False,
        again: bool = True,
    ) -> httpx.Response:
        """The answer, whatever its status, after retries unless `again` is False. With `stream` the body of a good
        one is still to be read and closed.

        Raises Unavailable once the retries are used up.
        """
        import httpx

        backoff = Backoff(self.retries if again else 0, patient=callable(content))
        while True:
            request = self._request(method, url, headers or {}, form, content)
            try:
                response = await self._exchange(request, stream=stream, upload=callable(content))
            except (httpx.TransportError, httpx.InvalidURL, OSError) as error:
                self._doubt()
                if not may_pass(error) or not await backoff.wait():
                    raise unavailable(url.netloc.decode(), error) from error
                continue
            if response.status_code == 400:
                self._doubt()
            if not may_be_tried_again(response) or not await backoff.wait(retry_after(response)):
                return response
            await response.aclose()

    def _doubt(self) -> None:
        """It may be another server from now on, which wants TLS, or no longer does."""
        self._settled = self._settled and not self._finds_out

    async def _exchange(self, request: httpx.Request, *, stream: bool, upload: bool) -> httpx.Response:
        limit = None if upload else _PATIENCE * self._config.timeout
        with anyio.fail_after(limit):
            response = await self._client.send(request, stream=True)
        if stream and response.is_success:
            return response
        try:
            with anyio.fail_after(2 * _PATIENCE * self._config.timeout):
                return await _whole(response)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    def _request(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        form: Sequence[tuple[str, str]] | None,
        content: Content | None,
    ) -> httpx.Request:
        import httpx

        headers = dict(headers)
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            content = urlencode(form).encode()
        body = content() if callable(content) else content
        request = self._client.build_request(method, url, headers=headers, content=body)
        if callable(content):
            limits, answer = self._config.timeout, self._config.answer_timeout
            timeout = httpx.Timeout(
                limits, connect=min(limits, _CONNECT), read=answer, write=_PATIENCE * limits, pool=None
            )
            request.extensions["timeout"] = timeout.as_dict()
        return request


async def _whole(response: httpx.Response) -> httpx.Response:
    """The answer with its body, which is bounded whatever its head says."""
    import httpx

    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > BODY_MAX:
            raise Unavailable(
                f"the registry {response.url.netloc.decode()} gave a damaged answer",
                f"it is larger than {BODY_MAX} bytes",
            )
    unfit = (b"content-encoding", b"content-length", b"transfer-encoding")
    # Raw: what a damaged head has need not be text.
    headers = [pair for pair in response.headers.raw if pair[0].lower() not in unfit]
    return httpx.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)


def retry_after(response: httpx.Response) -> float:
    """Seconds that the registry wishes us to wait (RFC 9110, 10.2.3: a number, or a date); 0 if it says nothing."""
    text = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime
    from time import time

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return 0.0
