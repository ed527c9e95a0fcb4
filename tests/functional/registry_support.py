"""A CA and token servers for real registries, for the tests of those who speak to them."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)
SERVICE, ISSUER = "registry.test", "issuer.test"


class Authority:
    """A CA; `issue` writes NAME.pem and NAME.key for 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = directory / "ca.pem"
        self._own = self._sign("test authority", self._key.public_key(), authority=True)
        self.certificate.write_bytes(self._own.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name: str, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), authority=False)
        paths = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return paths


@dataclass
class TokenServer:
    """Gives tokens for `users` (name: password), and anonymous ones to read what begins with "public/".

    `spoiled` counts down the tokens that are given with an end that has passed. Refresh tokens are "refresh:USER".
    """

    users: dict[str, str]
    authority: Authority
    realm: str = ""
    spoiled: int = 0
    asked: list[tuple[str, list[str], str]] = field(default_factory=list)
    """Method, scopes and user of every request that was good."""

    def __post_init__(self) -> None:
        certificate, key = self.authority.issue("token")
        self._key = key.read_bytes()
        der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(serialization.Encoding.DER)
        self._chain = [base64.b64encode(der).decode()]

    @property
    def auth(self) -> dict[str, Any]:
        """For the configuration of docker-registry."""
        bundle = str(self.authority.certificate)
        return {"token": {"realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}

    def give(self, method: str, fields: dict[str, list[str]], authorization: str) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        scopes = [scope for value in fields.get("scope", []) for scope in value.split()]
        if method == "POST":
            user = fields.get("refresh_token", [""])[0].removeprefix("refresh:")
            known = fields.get("grant_type") == ["refresh_token"] and user in self.users
        else:
            pair = base64.b64decode(authorization.partition(" ")[2]).decode()
            user, _, password = pair.partition(":")
            known = not pair or self.users.get(user) == password
        if not known or fields.get("service") != [SERVICE]:
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}
        self.asked.append((method, scopes, user))
        answer = {"token": self._token(user, scopes), "expires_in": 300}
        if fields.get("offline_token") == ["true"]:
            answer["refresh_token"] = f"refresh:{user}"
        return 200, answer

    def _token(self, user: str, scopes: list[str]) -> str:
        late, self.spoiled = self.spoiled > 0, max(0, self.spoiled - 1)
        now = int(time.time())
        access = [grant for scope in scopes if (grant := self._grant(user, scope))]
        claims = {"iss": ISSUER, "sub": user, "aud": SERVICE, "iat": now, "nbf": now - 900, "jti": str(now)}
        claims |= {"exp": now - 600 if late else now + 300, "access": access}
        return jwt.encode(claims, self._key, "ES256", headers={"x5c": self._chain})

    @staticmethod
    def _grant(user: str, scope: str) -> dict[str, Any] | None:
        kind, name, actions = scope.split(":", 2)
        granted = actions.split(",")
        if not user:
            granted = ["pull"] if name.startswith("public/") and "pull" in granted else []
        return {"type": kind, "name": name, "actions": granted} if granted else None


@contextlib.contextmanager
def token_server(authority: Authority, **users: str) -> Iterator[TokenServer]:
    """On a loopback port."""
    tokens = TokenServer(users, authority)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET", urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer("POST", self.rfile.read(int(self.headers["content-length"])).decode())

        def _answer(self, method: str, text: str) -> None:
            status, value = tokens.give(method, parse_qs(text), self.headers.get("authorization", ""))
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    tokens.realm = f"http://127.0.0.1:{server.server_port}/token"
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
