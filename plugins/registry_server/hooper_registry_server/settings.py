"""Settings of the server."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[frontend.registry]` of the configuration. Times are seconds, paths are absolute."""

    listen: tuple[str, ...] = ("127.0.0.1:5000",)
    """HOST:PORT of each address; [::1]:5000 for IPv6."""
    directory: str = ""
    """Where everything is kept. "": within the daemon, in its own content store, and its images are served too."""
    read_only: bool = False
    """Nothing can be pushed or deleted."""
    delete: bool = True
    """Tags, manifests and blobs can be deleted by clients."""
    references: Literal["all", "blobs", "none"] = "all"
    """What a pushed manifest must find in its repository: all that it names, blobs alone (an index may name manifests
    that are not here), or nothing."""

    htpasswd: str = ""
    """File of users, `htpasswd -B`; each of them may do everything."""
    anonymous_pull: bool = False
    """Whoever has no password may pull."""
    tokens: bool = False
    """Users of the htpasswd file get bearer tokens from this server's own /token. Implied by `anonymous_pull`."""
    public_url: str = ""
    """This server as clients see it, if it is behind a proxy: https://registry.example."""

    token_realm: str = ""
    """URL of a token server of your own, whose tokens are accepted; then the next three say how they are checked."""
    token_service: str = ""
    token_issuer: str = ""
    token_keys: list[str] = []
    """Files with its public keys: PEM (keys or certificates) or a JWK set."""

    tls_certificate: str = ""
    """PEM file with the certificate and those that it is signed by. "": plain HTTP."""
    tls_key: str = ""

    upstream: str = ""
    """URL of a registry whose content is given out here, fetched once and kept. Nothing can be pushed then."""
    upstream_username: str = ""
    upstream_password_file: str = ""
    upstream_driver: str = "http"
    upstream_settings: dict[str, Any] = {}
    """Settings for that registry driver, as `[registry.DRIVER]` has them."""

    upstream_keep: float = 604800.0
    """For how long what no tag of the upstream leads to any more is kept."""

    gc_interval: float = 3600.0
    """How often what nothing refers to is removed. 0: never."""
    gc_grace: float = 3600.0
    """For how long at least what nothing refers to is kept: a push may be about to refer to it."""
    upload_expiry: float = 86400.0
    """An upload that nobody has gone on with for so long is given up."""
    timeout: float = 60.0
    """How long a client may keep the server waiting."""
    max_connections: int = 1000

    @property
    def issues_tokens(self) -> bool:
        return bool(self.htpasswd) and (self.tokens or self.anonymous_pull) and not self.token_realm

    @property
    def writable(self) -> bool:
        return not (self.read_only or self.upstream)
