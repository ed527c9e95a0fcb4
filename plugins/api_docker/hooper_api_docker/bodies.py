"""JSON bodies and authentication headers of requests, decoded."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.manifests import NO_JSON
from hooper.api.registry import Credentials
from hooper_api_docker.http import Request

T = TypeVar("T")


async def read_json(request: Request, decoder: msgspec.json.Decoder[T], repair: Callable[[Any], T] | None = None) -> T:
    """The body as `decoder` has it. `repair` is given the plain JSON of one that does not fit.

    InvalidArgument if there is none, if it is malformed, or of another content type.
    """
    data = await request.body()
    if not data.strip():
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    check_content_type(request)
    return decode_json(data, decoder, repair)


def decode_json(data: bytes, decoder: msgspec.json.Decoder[T], repair: Callable[[Any], T] | None = None) -> T:
    """InvalidArgument says where the data are not as they should be."""
    if b"\\u0000" in data:
        raise InvalidArgument("invalid JSON", "a string has a NUL character, which no name or argument can have")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        try:
            if repair:
                return repair(msgspec.json.decode(data))
        except (msgspec.ValidationError, AttributeError, TypeError) as still:
            error = still if isinstance(still, msgspec.ValidationError) else error
        raise InvalidArgument("invalid request body", str(error)) from None
    except NO_JSON as error:
        raise InvalidArgument("invalid JSON", str(error)) from None


def check_content_type(request: Request) -> None:
    """Only application/json: what a page in a browser can send to a local port is refused."""
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind and kind != b"application/json":
        raise InvalidArgument(f"unsupported Content-Type header ({kind.decode('latin-1')}): must be 'application/json'")


def without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """Null stands for a field that is not there, as in Go."""
    return {key: item for key, item in value.items() if item is not None}


class _Auth(msgspec.Struct):
    """AuthConfig of the API. Fields may be null."""

    username: str | None = None
    password: str | None = None
    auth: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None
    serveraddress: str | None = None


_auth_decoder = msgspec.json.Decoder(_Auth)
_auths_decoder = msgspec.json.Decoder(dict[str, _Auth])


def _credentials(auth: _Auth) -> Credentials | None:
    found = Credentials(
        username=auth.username or "",
        password=auth.password or "",
        identity_token=auth.identitytoken or "",
        registry_token=auth.registrytoken or "",
    )
    if not found.password and auth.auth:
        try:
            user, _, password = base64.b64decode(auth.auth).decode().partition(":")
        except ValueError:
            return None
        found = Credentials(user, password, found.identity_token, found.registry_token)
    return found if found.password or found.identity_token or found.registry_token else None


def _decode_header(value: bytes) -> bytes:
    return base64.urlsafe_b64decode(value.replace(b"+", b"-").replace(b"/", b"_") + b"=" * (-len(value) % 4))


def registry_auth(request: Request) -> Credentials | None:
    """X-Registry-Auth. What cannot be read counts as none, as in dockerd."""
    try:
        return _credentials(_auth_decoder.decode(_decode_header(request.headers.get(b"x-registry-auth", b""))))
    except (ValueError, RecursionError):
        return None


def registry_config(request: Request) -> dict[str, Credentials]:
    """X-Registry-Config: credentials by registry host."""
    try:
        auths = _auths_decoder.decode(_decode_header(request.headers.get(b"x-registry-config", b"")))
    except (ValueError, RecursionError):
        return {}
    found = {registry_host(server): _credentials(auth) for server, auth in auths.items()}
    return {host: credentials for host, credentials in found.items() if credentials}


def build_credentials(request: Request) -> dict[str, Credentials]:
    """Credentials by registry host of both headers: those of X-Registry-Auth are for the server that it names."""
    found = registry_config(request)
    try:
        host, credentials = login(_decode_header(request.headers.get(b"x-registry-auth", b"")))
    except (ValueError, InvalidArgument):
        return found
    return {host: credentials, **found} if credentials != Credentials(username=credentials.username) else found


def registry_host(server: str) -> str:
    """The host of a server address as `docker login` keeps it ("https://index.docker.io/v1/")."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    return "docker.io" if host in ("", "index.docker.io", "registry-1.docker.io") else host


def login(data: bytes) -> tuple[str, Credentials]:
    """Host and credentials of a POST /auth. InvalidArgument."""
    try:
        auth = _auth_decoder.decode(data)
    except NO_JSON as error:
        raise InvalidArgument("invalid JSON", str(error)) from None
    return registry_host(auth.serveraddress or ""), _credentials(auth) or Credentials(username=auth.username or "")
