"""The files in a container's /etc that the engine writes: hostname, hosts, resolv.conf."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hooper.api import oci
from hooper.api.model import Container

_LOCAL = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)
HOST_GATEWAY = "host-gateway"


def write(directory: Path, container: Container, own: Iterable[tuple[str, str]], gateway: str) -> list[oci.Mount]:
    """Writes the three files and returns their mounts.

    `own` are (address, names) lines of this container's endpoints and those it is to know; `gateway` is what
    `--add-host NAME:host-gateway` means.
    """
    shared_host = container.host_config.network_mode == "host"
    contents = {
        "hostname": f"{container.config.hostname}\n",
        "hosts": _host_hosts() if shared_host else _LOCAL,
        "resolv.conf": resolv_conf(container, shared_host=shared_host),
    }
    contents["hosts"] += "".join(f"{address}\t{names}\n" for address, names in own if address)
    for item in container.host_config.extra_hosts or ():
        name, _, address = item.partition("=" if "=" in item else ":")
        contents["hosts"] += f"{gateway if address == HOST_GATEWAY else address.strip('[]')}\t{name}\n"
    for name, content in contents.items():
        (directory / name).write_text(content)
    options = ["rbind", "rprivate", *(["ro"] if container.host_config.readonly_rootfs else [])]
    return [
        oci.Mount(destination=f"/etc/{name}", type="bind", source=str(directory / name), options=options)
        for name in contents
    ]


def _host_hosts() -> str:
    try:
        return Path("/etc/hosts").read_text()
    except OSError:
        return _LOCAL


def resolv_conf(container: Container, *, shared_host: bool) -> str:
    """The host's, without name servers that a container cannot reach, changed as --dns* say."""
    host = container.host_config
    servers, search, options = _host_resolver()
    if not shared_host:
        servers = [server for server in servers if not server.startswith("127.") and server != "::1"]
        servers = servers or _upstream() or ["8.8.8.8", "8.8.4.4"]
    servers = host.dns or servers
    search = host.dns_search or search
    options = host.dns_options or options
    lines = [f"nameserver {server}" for server in servers]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def _host_resolver(path: str = "/etc/resolv.conf") -> tuple[list[str], list[str], list[str]]:
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    try:
        text = Path(path).read_text()
    except OSError:
        return [], [], []
    for line in text.splitlines():
        word, *values = line.split() or [""]
        if word == "nameserver":
            found[word] += values[:1]
        elif word in found:
            found[word] = values
    return found["nameserver"], found["search"], found["options"]


def _upstream() -> list[str]:
    """Behind systemd-resolved's local stub: the servers that it asks."""
    return _host_resolver("/run/systemd/resolve/resolv.conf")[0]
