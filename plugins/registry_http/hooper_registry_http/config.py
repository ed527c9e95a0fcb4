"""Settings of the driver."""

from __future__ import annotations

import ipaddress

import msgspec


class HostConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[registry.http.registries."HOST[:PORT]"]`: what holds for one registry."""

    mirrors: list[str] = []
    """Asked first, in order, for all that is pulled: "[http://|https://]HOST[:PORT][/PREFIX]". What holds for a
    mirror's own connections is in the table of its host."""
    insecure: bool | None = None
    """Plain HTTP, or TLS that is not verified; unset: what the driver's list `insecure` says."""
    ca: str = ""
    """A file of certificates that it is verified with, too."""
    proxy: str = ""
    """URL of the proxy for it, or "direct" for none; unset: the driver's."""
    username: str = ""
    """With `password_file`: credentials for requests whose client gives none, as those to a mirror."""
    password_file: str = ""


class HttpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[registry.http]` of the configuration."""

    insecure: list[str] = []
    """Registries without verified TLS: "host", "host:port" or a network ("10.0.0.0/8"). This host's own
    (127.0.0.0/8, ::1, localhost) always are."""
    timeout: float = 8.0
    """Seconds that a registry may take to connect or to send something."""
    answer_timeout: float = 300.0
    """Seconds that it may take to verify what was uploaded."""
    min_rate: int = 1024
    """Bytes a second; a download that is slower for four times `timeout` counts as broken off."""
    retries: int = 4
    """How often a request is tried again after a failure that may pass."""
    chunk: int = 0
    """The most bytes that one request uploads, for registries and proxies that bound it; 0: no bound."""
    cert_dirs: list[str] = msgspec.field(default_factory=lambda: ["/etc/hooper/certs.d", "/etc/docker/certs.d"])
    """Each holds a directory a registry ("host:port") with *.crt that it is verified with, too, and *.cert with
    *.key that it is shown."""
    http_proxy: str = ""
    """Proxies for registries of either scheme; unset: the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
    https_proxy: str = ""
    no_proxy: str = ""
    """Hosts that are reached directly, separated by commas: names (with all below them), addresses, networks, "*"."""
    rewrites: dict[str, str] = {}
    """Where repositories really are: prefix = prefix, both HOST[:PORT][/PATH]. The longest that fits holds."""
    blocked: dict[str, str] = {}
    """Registries and repositories that are refused, with the reason: HOST[:PORT][/PATH], or a pattern with * and ?."""
    registries: dict[str, HostConfig] = {}

    def __post_init__(self) -> None:
        for name, host in self.registries.items():
            if bool(host.username) != bool(host.password_file):
                raise ValueError(f'registries."{name}": username and password_file go together')
            for mirror in host.mirrors:
                if not mirror.partition("://")[2] and "://" in mirror:
                    raise ValueError(f'registries."{name}": the mirror {mirror} has no host')

    def of(self, host: str) -> HostConfig:
        """The table of a registry; an empty one if it has none."""
        return self.registries.get(host) or HostConfig()


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
    own = config.of(host).insecure
    if own is not None:
        return own
    name = hostname(host)
    return is_loopback(host) or any(entry in (host, name) or in_network(entry, name) for entry in config.insecure)


def in_network(network: str, name: str) -> bool:
    """Whether `name` is an address in the network, as 10.0.0.0/8."""
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
