"""Settings of the driver."""

from __future__ import annotations

import ipaddress

import msgspec


class HttpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[registry.http]` of the configuration."""

    insecure: list[str] = []
    """Registries without verified TLS: "host", "host:port" or a network ("10.0.0.0/8"). This host's own
    (127.0.0.0/8, ::1, localhost) always are."""
    timeout: float = 8.0
    """Seconds that a registry may take to connect or to send something."""
    retries: int = 4
    """How often a request is tried again after a failure that may pass."""
    ca_dir: str = "/etc/hooper/certs.d"
    """Holds a directory a registry ("host:port") with the *.crt that it is verified with, too."""


def hostname(host: str) -> str:
    """Of "host:port" and "[::1]:port" the host alone."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    name = hostname(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_insecure(host: str, config: HttpConfig) -> bool:
    """Whether plain HTTP and unverified TLS will do for this registry."""
    name = hostname(host)
    return is_loopback(host) or any(entry in (host, name) or _contains(entry, name) for entry in config.insecure)


def _contains(network: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
