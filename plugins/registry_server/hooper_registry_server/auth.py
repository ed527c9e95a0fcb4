"""Who may do what: users of an htpasswd file, bearer tokens, and those without a name."""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from hooper.api.errors import InvalidArgument
from hooper_registry_server.http import Request
from hooper_registry_server.problems import Problem
from hooper_registry_server.settings import Settings

if TYPE_CHECKING:
    from hooper_registry_server.tokens import Tokens

_BCRYPT = re.compile(rb"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}")
_REMEMBERED = 1000


class Identity:
    """`access` is what it may do to each repository; None: everything. `catalog`: list them all."""

    def __init__(
        self, user: str, access: Mapping[str, Collection[str]] | None, catalog: bool = False, *, named: bool = True
    ) -> None:
        self.user, self.access, self.catalog, self.named = user, access, catalog, named

    def may(self, repository: str, action: str) -> bool:
        if self.access is None:
            return True
        granted = self.access.get(repository, self.access.get("*", ()))
        return action in granted or "*" in granted


EVERYBODY = Identity("", None, True, named=False)
"""Anyone, where no credentials are asked for."""


class Passwords:
    """The users of an htpasswd file; it is read again when it changes. Passwords that are right are remembered, as
    keyed hashes: bcrypt takes a tenth of a second on purpose."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users: dict[str, bytes] = {}
        self._stamp: tuple[int, int] = (0, 0)
        self._key = os.urandom(32)
        self._right: dict[bytes, None] = {}
        self._limiter = anyio.CapacityLimiter(2)
        self._reload()

    def _reload(self) -> None:
        try:
            stat = self._path.stat()
            if (stamp := (stat.st_mtime_ns, stat.st_size)) == self._stamp:
                return
            lines = self._path.read_bytes().splitlines()
        except OSError as error:
            raise InvalidArgument(
                f"cannot read the users in {self._path}", error.strerror or str(error), "Make it with `htpasswd -B -c`."
            ) from error
        users = {}
        for number, line in enumerate(lines, 1):
            user, colon, hashed = line.strip().partition(b":")
            if not user or user.startswith(b"#"):
                continue
            if not colon or not _BCRYPT.fullmatch(hashed):
                raise InvalidArgument(
                    f"line {number} of {self._path} is no user", "only bcrypt hashes are accepted", "Use `htpasswd -B`."
                )
            users[user.decode("utf-8", "replace")] = hashed
        self._users, self._stamp, self._right = users, stamp, {}

    async def check(self, user: str, password: str) -> bool:
        """InvalidArgument if the file is no good any more."""
        self._reload()
        mark = hmac.digest(self._key, f"{user}\0{password}".encode("utf-8", "replace"), "sha256")
        # What is right by the file as it is now must not be remembered for the one that may replace it meanwhile.
        users, remembered = self._users, self._right
        if mark in remembered:
            return True
        if not users:
            return False
        # A user who does not exist takes as long as one who does.
        hashed = users.get(user, next(iter(users.values())))
        async with self._limiter:
            fits = await anyio.to_thread.run_sync(self._compare, hashed, password)
        right = fits and user in users
        if right:
            remembered[mark] = None
            while len(remembered) > _REMEMBERED:
                del remembered[next(iter(remembered))]
        return right

    @staticmethod
    def _compare(hashed: bytes, password: str) -> bool:
        import bcrypt

        # bcrypt uses 72 bytes; more are no error for other programs that read the same file.
        return bcrypt.checkpw(password.encode()[:72], hashed)


class Gate:
    """Decides on every request. `open` says whether no credentials are needed at all."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._passwords = Passwords(Path(settings.htpasswd)) if settings.htpasswd else None
        self.tokens: Tokens | None = None
        if settings.token_realm or settings.issues_tokens:
            from hooper_registry_server.tokens import Tokens

            self.tokens = Tokens(settings)
        self.open = self._passwords is None and self.tokens is None
        self.pulled_by_all = settings.anonymous_pull and not self.open

    async def identify(self, request: Request) -> Identity:
        """Whoever sends it. 401 if what it has to show is wrong."""
        if self.open:
            return EVERYBODY
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if not kind:
            return self.stranger()
        if kind.lower() == "bearer" and self.tokens is not None:
            identity = await anyio.to_thread.run_sync(self.tokens.identify, value.strip(), self.service(request))
            if identity is None:
                raise self.refusal(request, error="invalid_token")
            return identity
        if kind.lower() == "basic" and self._passwords is not None:
            return await self._basic(request, value.strip())
        raise self.refusal(request)

    def stranger(self) -> Identity:
        """Who has shown nothing."""
        return Identity("", {"*": ("pull",)} if self.pulled_by_all else {}, self.pulled_by_all, named=False)

    async def _basic(self, request: Request, value: str) -> Identity:
        user, password = credentials_of(value)
        if not await self.knows(user, password):
            raise self.refusal(request)
        return Identity(user, None, True)

    async def knows(self, user: str, password: str) -> bool:
        return self._passwords is not None and await self._passwords.check(user, password)

    def check(self, request: Request, identity: Identity, repository: str, *actions: str) -> None:
        """401 or 403 unless all of the actions are granted."""
        if all(identity.may(repository, action) for action in actions):
            return
        scope = f"repository:{repository}:{','.join(actions)}"
        if self.tokens is None and identity.named:
            raise Problem(403, "DENIED", "requested access to the resource is denied", {"scope": scope})
        raise self.refusal(request, scope, "insufficient_scope" if identity.named else "")

    def check_base(self, request: Request, identity: Identity) -> None:
        """/v2/ asks for credentials even if one may pull without: clients learn here, and only here, how to log in."""
        if not (self.open or identity.named):
            raise self.refusal(request)

    def check_catalog(self, request: Request, identity: Identity) -> None:
        if not identity.catalog:
            raise self.refusal(request, "registry:catalog:*", "insufficient_scope" if identity.named else "")

    def refusal(self, request: Request, scope: str = "", error: str = "") -> Problem:
        """401, with how to get in."""
        challenge = 'Basic realm="registry"'
        if self.tokens is not None:
            realm = self._settings.token_realm or f"{self._url(request)}/token"
            fields = {"realm": realm, "service": self.service(request), "scope": scope, "error": error}
            challenge = "Bearer " + ",".join(f'{name}="{value}"' for name, value in fields.items() if value)
        return Problem(401, "UNAUTHORIZED", "authentication required", None, {"www-authenticate": challenge})

    def _url(self, request: Request) -> str:
        if self._settings.public_url:
            return self._settings.public_url.rstrip("/")
        return f"{'https' if request.secure else 'http'}://{_host(request)}"

    def service(self, request: Request) -> str:
        """The audience of tokens."""
        return self._settings.token_service or "hooper-registry"


def _host(request: Request) -> str:
    """The host that the client has asked; what could break out of a header's quotes is none."""
    return request.host if re.fullmatch(r"[A-Za-z0-9.:\[\]_-]+", request.host) else "localhost"


def credentials_of(value: str) -> tuple[str, str]:
    """User and password of basic authentication (RFC 7617); empty ones if it is damaged."""
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password
