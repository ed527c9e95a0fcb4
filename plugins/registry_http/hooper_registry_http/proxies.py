"""Which proxy a registry is reached by."""

from __future__ import annotations

from hooper_registry_http.config import HttpConfig, hostname, in_network, is_loopback


def proxy_for(host: str, scheme: str, config: HttpConfig) -> str | None:
    """Its URL; "" for none; None if nothing is configured, so that the environment says."""
    own = config.of(host).proxy
    if own:
        return "" if own == "direct" else own
    configured = config.https_proxy if scheme == "https" else config.http_proxy
    if not (configured or config.http_proxy or config.https_proxy or config.no_proxy):
        return None
    return "" if is_loopback(host) or _is_excepted(host, config.no_proxy) else configured


def _is_excepted(host: str, exceptions: str) -> bool:
    name = hostname(host)
    for entry in (text.strip() for text in exceptions.split(",")):
        suffix = entry.lstrip("*").lstrip(".")
        if entry == "*" or (suffix and (name == suffix or name.endswith(f".{suffix}"))):
            return True
        if entry and (entry == host or in_network(entry, name)):
            return True
    return False
