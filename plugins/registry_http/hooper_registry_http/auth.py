"""Who we are to a registry: anonymous, basic, or a bearer token fetched from the realm that it names
(distribution-spec's token authentication: docs/spec/auth/token.md, oauth.md)."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import msgspec

from hooper.api.errors import Unauthorized, Unavailable
from hooper.api.manifests import NO_JSON
from hooper.api.registry import Credentials
from hooper_registry_http.challenge import Challenge, parse_challenges
from hooper_registry_http.transport import Transport, same_origin

if TYPE_CHECKING:
    import httpx

CLIENT_ID = "hooper"
_DEFAULT_LIFE = 60.0
_MARGIN = 10.0
"""Seconds before its end from which a token is no longer used."""


class Token(msgspec.Struct):
    """The answer of a token server."""

    token: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_in: float = _DEFAULT_LIFE


class Authenticator:
    """Makes the Authorization header of requests to one registry, and answers its challenges.

    The credentials go to that registry's origin (basic) or to the realm that it names (bearer), and
    nowhere else. Tokens are kept per set of scopes until they end.
    """

    def __init__(self, host: str, credentials: Credentials | None, transport: Transport) -> None:
        self._host, self._transport = host, transport
        self._credentials = credentials or Credentials()
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self._wider: dict[tuple[str, ...], tuple[str, ...]] = {}
        """Scopes that the registry wants beside those that a request needs by the specification."""
        self._lock = anyio.Lock()

    @property
    def anonymous(self) -> bool:
        c = self._credentials
        return not (c.username or c.identity_token or c.registry_token)

    async def headers(self, url: httpx.URL, scopes: Sequence[str]) -> dict[str, str]:
        """For a request to `url`: empty unless it goes to the registry itself. Where nobody may be anonymous the
        registry's own refusal says so best."""
        if not same_origin(url, self._transport.base):
            return {}
        if self._credentials.registry_token:
            return {"Authorization": f"Bearer {self._credentials.registry_token}"}
        if self._challenge is None:
            return {}
        if self._challenge.scheme == "basic":
            return {"Authorization": self._basic()} if self._credentials.username else {}
        try:
            token = await self._token(_key(scopes))
        except Unauthorized:
            if self.anonymous:
                return {}
            raise
        return {"Authorization": f"Bearer {token}"}

    def challenged(self, response: httpx.Response, scopes: Sequence[str]) -> bool:
        """Takes in a 401; True if the request may fare better a second time."""
        challenges = parse_challenges(response.headers.get_list("www-authenticate"))
        known = [c for c in challenges if c.scheme == "basic" or (c.scheme == "bearer" and "realm" in c.parameters)]
        if not known or self._credentials.registry_token:
            return False
        self._challenge = next((c for c in known if c.scheme == "bearer"), known[0])
        sent = response.request.headers.get("authorization", "")
        if self._challenge.scheme == "basic":
            return bool(self._credentials.username) and not sent
        key = _key(scopes)
        if key in self._tokens and sent == f"Bearer {self._tokens[key][0]}":
            del self._tokens[key]
        widened = self._widen(key)
        return widened or not sent or self._challenge.parameters.get("error") != "insufficient_scope"

    def _widen(self, key: tuple[str, ...]) -> bool:
        """Whether the registry wants scopes that were not asked for."""
        assert self._challenge is not None
        known = (*key, *self._wider.get(key, ()))
        wider = {scope for scope in self._challenge.parameters.get("scope", "").split() if not _covered(scope, known)}
        if wider:
            self._wider[key] = tuple(sorted({*self._wider.get(key, ()), *wider}))
        return bool(wider)

    async def login(self) -> str:
        """Proves the credentials after a challenge; an identity token if the server gives one."""
        if self._challenge is None or self._challenge.scheme != "bearer" or self._credentials.registry_token:
            return ""
        token = await self._fetch((), offline=True)
        return token.refresh_token

    def _basic(self) -> str:
        pair = f"{self._credentials.username}:{self._credentials.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    async def _token(self, scopes: tuple[str, ...]) -> str:
        async with self._lock:
            now = time.monotonic()
            self._tokens = {key: token for key, token in self._tokens.items() if token[1] > now}
            if scopes in self._tokens:
                return self._tokens[scopes][0]
            token = await self._fetch((*scopes, *self._wider.get(scopes, ())))
            text = token.token or token.access_token
            life = max(token.expires_in, _DEFAULT_LIFE) - _MARGIN
            self._tokens[scopes] = (text, time.monotonic() + life)
            return text

    async def _fetch(self, scopes: tuple[str, ...], *, offline: bool = False) -> Token:
        realm = self._realm()
        if self._credentials.identity_token:
            response = await self._traded(realm, scopes)
        else:
            response = await self._asked(realm, scopes, offline=offline)
        return self._read(response)

    async def _traded(self, realm: httpx.URL, scopes: tuple[str, ...]) -> httpx.Response:
        """By the OAuth 2 form: an identity token for an access token."""
        form = [
            ("service", self._service),
            ("scope", " ".join(scopes)),
            ("client_id", CLIENT_ID),
            ("grant_type", "refresh_token"),
            ("refresh_token", self._credentials.identity_token),
        ]
        return await self._transport.send("POST", realm, form=[pair for pair in form if pair[1]])

    async def _asked(self, realm: httpx.URL, scopes: tuple[str, ...], *, offline: bool) -> httpx.Response:
        query = [("service", self._service), *(("scope", scope) for scope in scopes)]
        headers = {}
        if self._credentials.username:
            query.append(("account", self._credentials.username))
            headers["Authorization"] = self._basic()
        if offline:
            query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
        url = realm
        for name, value in query:
            url = url.copy_add_param(name, value) if value else url
        return await self._transport.send("GET", url, headers=headers)

    @property
    def _service(self) -> str:
        return self._challenge.parameters.get("service", "") if self._challenge else ""

    def _realm(self) -> httpx.URL:
        assert self._challenge is not None
        try:
            realm = self._transport.base.join(self._challenge.parameters["realm"])
        except ValueError as error:
            raise Unavailable(f"the registry {self._host} names no token server", str(error)) from error
        if not self.anonymous and self._transport.base.scheme == "https" and realm.scheme != "https":
            raise Unauthorized(
                f"the credentials for {self._host} were not sent",
                f"its token server {realm.host} is not reached by https",
                "Ask its operator to mend the realm.",
            )
        return realm

    def _read(self, response: httpx.Response) -> Token:
        if not response.is_success:
            if response.status_code >= 500 or response.status_code == 429:
                raise Unavailable(
                    f"the token server of {self._host} failed", f"HTTP {response.status_code}", "Try again later."
                )
            why = "authentication required" if self.anonymous else "incorrect username or password"
            raise Unauthorized(
                f"login to {self._host} refused: unauthorized", why, f"Log in: docker login {self._host}"
            )
        try:
            token = msgspec.json.decode(response.content, type=Token)
        except NO_JSON as error:
            raise Unavailable(f"the token server of {self._host} gave no token", str(error)) from error
        text = token.token or token.access_token
        if not (text.isascii() and text.isprintable() and text):
            raise Unavailable(f"the token server of {self._host} gave no token", "its answer has none that can be sent")
        return token


def _key(scopes: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(scopes))


def _covered(scope: str, known: Sequence[str]) -> bool:
    """Whether a scope ("TYPE:NAME:ACTION,…") asks for nothing that the known ones do not."""
    name, _, actions = scope.rpartition(":")
    granted = {a for one in known if one.rpartition(":")[0] == name for a in one.rpartition(":")[2].split(",")}
    return set(actions.split(",")) <= granted
