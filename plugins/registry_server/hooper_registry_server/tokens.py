"""Bearer tokens: JSON web tokens with an `access` claim (Docker registry token specification), checked by PyJWT.

They come from a token server, whose public keys the configuration names, or from this server's own endpoint, which
signs them with a secret that no one else has and that lives as long as the process.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hooper.api.errors import InvalidArgument
from hooper_registry_server.auth import Identity
from hooper_registry_server.settings import Settings

SECONDS = 300
"""How long a token of this server is good."""
_LEEWAY = 60
_ISSUER = "hooper-registry"
_ASYMMETRIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class Tokens:
    def __init__(self, settings: Settings) -> None:
        """InvalidArgument if the keys cannot be read, or the issuer or service is not named."""
        self._own = not settings.token_realm
        self._issuer = _ISSUER if self._own else settings.token_issuer
        self._secret = os.urandom(32)
        self._keys: list[tuple[str, Any]] = []
        if self._own:
            return
        if not (settings.token_issuer and settings.token_service and settings.token_keys):
            raise InvalidArgument(
                "token_realm is set", "a token cannot be checked", "Set token_service, token_issuer and token_keys too."
            )
        for name in settings.token_keys:
            self._keys += _keys_of(Path(name))

    def identify(self, token: str, service: str) -> Identity | None:
        """Whom it is for and what it grants; None if it is not good."""
        for key in self._candidates(token):
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=["HS256"] if self._own else _ASYMMETRIC,
                    audience=service,
                    issuer=self._issuer,
                    leeway=_LEEWAY,
                    options={"require": ["exp"]},
                )
            except (jwt.PyJWTError, TypeError, ValueError):
                continue
            return _identity(claims)
        return None

    def _candidates(self, token: str) -> list[Any]:
        """The key that the token names, or else all."""
        if self._own:
            return [self._secret]
        try:
            wanted = jwt.get_unverified_header(token).get("kid", "")
        except jwt.PyJWTError:
            return []
        named = [key for kid, key in self._keys if kid and kid == wanted]
        return named or [key for _, key in self._keys]

    def issue(self, user: str, service: str, scopes: Iterable[str], *, everything: bool, pulls: bool) -> dict[str, Any]:
        """The answer of the token endpoint. What is asked for and not allowed is left out, as it is specified."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "sub": user,
            "aud": service,
            "exp": now + SECONDS,
            "nbf": now - _LEEWAY,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "access": list(_granted(scopes, everything=everything, pulls=pulls)),
        }
        token = jwt.encode(claims, self._secret, algorithm="HS256")
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return {"token": token, "access_token": token, "expires_in": SECONDS, "issued_at": issued}


def _granted(scopes: Iterable[str], *, everything: bool, pulls: bool) -> Iterable[dict[str, Any]]:
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        wanted = [action for action in actions.split(",") if action]
        if not everything:
            wanted = [action for action in wanted if pulls and action == "pull" and kind == "repository"]
        if wanted:
            yield {"type": kind, "name": name, "actions": wanted}


def _identity(claims: Mapping[str, Any]) -> Identity:
    access: dict[str, set[str]] = {}
    catalog = False
    entries = claims.get("access")
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        actions = entry.get("actions")
        granted = {action for action in actions if isinstance(action, str)} if isinstance(actions, list) else set()
        if entry.get("type") == "registry" and entry.get("name") == "catalog":
            catalog = catalog or "*" in granted
        elif entry.get("type") == "repository" and isinstance(entry.get("name"), str) and entry["name"] != "*":
            access.setdefault(entry["name"], set()).update(granted)
    return Identity(str(claims.get("sub", "")), access, catalog)


def _keys_of(path: Path) -> list[tuple[str, Any]]:
    """(key id or "", key) of a PEM file or a JWK set."""
    try:
        content = path.read_bytes()
        if content.lstrip().startswith(b"{"):
            return _jwk_keys(content)
        return [("", _pem_key(block)) for block in _pem_blocks(content)]
    except OSError as error:
        raise InvalidArgument(f"cannot read the key {path}", error.strerror or str(error)) from error
    except (ValueError, jwt.PyJWTError, msgspec.DecodeError) as error:
        raise InvalidArgument(
            f"{path} has no public key", str(error), "Give PEM (public keys, certificates) or a JWK set."
        ) from error


def _jwk_keys(content: bytes) -> list[tuple[str, Any]]:
    document = msgspec.json.decode(content)
    keys = document.get("keys", [document])
    return [(key.get("kid", ""), jwt.PyJWK(key).key) for key in keys]


def _pem_blocks(content: bytes) -> list[bytes]:
    end = b"-----END "
    blocks = [block for block in content.split(b"-----BEGIN ")[1:] if end in block]
    if not blocks:
        raise ValueError("it is not PEM")
    return [b"-----BEGIN " + block for block in blocks]


def _pem_key(block: bytes) -> Any:
    if b"CERTIFICATE" in block.splitlines()[0]:
        return x509.load_pem_x509_certificate(block).public_key()
    return load_pem_public_key(block)
