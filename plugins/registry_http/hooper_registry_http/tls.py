"""Certificates: whom a registry is believed by, and who we are to it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path

from hooper.api.errors import InvalidArgument
from hooper_registry_http.config import HttpConfig


def make_context(names: Iterable[str], config: HttpConfig, *, verified: bool) -> ssl.SSLContext:
    """For a registry that is known by `names` (HOST[:PORT]). InvalidArgument if a file of its is no good."""
    # The system's authorities take longer to load than a small pull.
    context = ssl.create_default_context() if verified else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for name in dict.fromkeys(names):
        if verified and (authority := config.of(name).ca):
            _trust(context, Path(authority))
        for directory in _directories(name, config):
            _load(context, directory, verified=verified)
    return context


def files_of(names: Iterable[str], config: HttpConfig) -> Iterator[Path]:
    """Where `make_context` finds certificates: the directories, and what is in them."""
    for name in names:
        if authority := config.of(name).ca:
            yield Path(authority)
        for directory in _directories(name, config):
            yield directory
            yield from sorted(directory.iterdir())


def _directories(name: str, config: HttpConfig) -> Iterator[Path]:
    return (found for base in config.cert_dirs if (found := Path(base, name)).is_dir())


def _load(context: ssl.SSLContext, directory: Path, *, verified: bool) -> None:
    if verified:
        for certificate in sorted(directory.glob("*.crt")):
            _trust(context, certificate)
    for certificate in sorted(directory.glob("*.cert")):
        key = certificate.with_suffix(".key")
        if not key.exists():
            raise InvalidArgument(
                f"missing key {key.name} for client certificate {certificate.name}",
                f"it is not in {directory}",
                "Put it there. CA certificates end in .crt, those of clients in .cert.",
            )
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(certificate, error) from error
    for key in sorted(directory.glob("*.key")):
        if not key.with_suffix(".cert").exists():
            raise InvalidArgument(
                f"missing client certificate {key.stem}.cert for key {key.name}", f"it is not in {directory}"
            )


def _trust(context: ssl.SSLContext, certificate: Path) -> None:
    try:
        context.load_verify_locations(certificate)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(certificate, error) from error


def _unusable(path: Path, error: Exception) -> InvalidArgument:
    return InvalidArgument(f"cannot use the certificate {path}", str(error), "It has to be PEM, and readable.")
