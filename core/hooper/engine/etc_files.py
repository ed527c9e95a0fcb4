"""The files in a container's /etc that the engine writes: hostname, hosts, resolv.conf."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hooper.api import oci
from hooper.api.model import Container
from hooper.api.network import Endpoint
from hooper.dns.protocol import ADDRESS
from hooper.engine.clock import seconds

_LOCAL = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)
HOST_GATEWAY = "host-gateway"
_NAMES = ("hostname", "hosts", "resolv.conf")


def write(
    directory: Path, container: Container, own: Iterable[tuple[str, str]], gateway: str, *, named: bool = False
) -> list[oci.Mount]:
    """Writes the three files and returns their mounts.

    `own` are (address, names) lines of this container's endpoints and those it is to know; `gateway` is what
    `--add-host NAME:host-gateway` means; `named`: the resolver answers in the container.
    """
    shared_host = container.host_config.network_mode == "host"
    contents = {
        "hostname": f"{container.config.hostname}\n",
        "hosts": _host_hosts() if shared_host else _LOCAL,
        "resolv.conf": resolv_conf(container, shared_host=shared_host, named=named),
    }
    contents["hosts"] += "".join(f"{address}\t{names}\n" for address, names in own if address)
    for item in container.host_config.extra_hosts or ():
        name, _, address = item.partition("=" if "=" in item else ":")
        contents["hosts"] += f"{gateway if address == HOST_GATEWAY else address.strip('[]')}\t{name}\n"
    for name, content in contents.items():
        _write(f"{directory}/{name}", content)
    return lent(directory, container)


def _write(path: str, content: str) -> None:
    """In a third of the time that a file object takes: there are three at each start."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        data = memoryview(content.encode())
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def lent(directory: Path, container: Container) -> list[oci.Mount]:
    """The mounts of the three files that are in `directory`, which may be that of another container."""
    options = ["rbind", "rprivate", *(["ro"] if container.host_config.readonly_rootfs else [])]
    return [
        oci.Mount(destination=f"/etc/{name}", type="bind", source=f"{directory}/{name}", options=options)
        for name in _NAMES
    ]


def _host_hosts() -> str:
    try:
        return Path("/etc/hosts").read_text()
    except OSError:
        return _LOCAL


def resolv_conf(container: Container, *, shared_host: bool, named: bool = False) -> str:
    """The host's, without name servers that a container cannot reach, changed as --dns* say.

    `named`: the resolver takes the place of all servers, and asks them.
    """
    host = container.host_config
    servers, search, options = _host_resolver()
    if not shared_host:
        servers = [server for server in servers if not server.startswith("127.") and server != "::1"]
        servers = servers or _upstream() or ["8.8.8.8", "8.8.4.4"]
    servers = host.dns or servers
    search = host.dns_search or search
    options = host.dns_options or options
    if named:
        servers = [ADDRESS]
        if not any(option.startswith("ndots:") for option in options):
            # Names of containers mostly have no dots: they are asked for as they are first.
            options = [*options, "ndots:0"]
    lines = [f"nameserver {server}" for server in servers]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def asks_resolver(path: str) -> bool:
    """The resolv.conf at `path` names the resolver. OSError if it cannot be read."""
    return f"nameserver {ADDRESS}\n" in Path(path).read_text(errors="replace")


def connected(container: Container, endpoint: Endpoint, log: Any, *, named: bool) -> None:
    """A running container has got an endpoint in a further network, with names or not.

    Its files change in place: they are mounted. A resolv.conf that somebody has edited since the start stays.
    """
    added = [f"{address}\t{hosts_names(container)}\n" for address in _addresses(endpoint)]
    path, started = Path(container.resolv_conf_path), seconds(container.state.started_at)
    try:
        with _edited(container.hosts_path) as lines:
            lines += added
        if named and not asks_resolver(container.resolv_conf_path) and path.stat().st_mtime <= started:
            path.write_text(resolv_conf(container, shared_host=False, named=True))
    except OSError as error:
        log.warning("cannot change files in /etc", container=container.id, error=str(error))


def disconnected(container: Container, endpoint: Endpoint, log: Any) -> None:
    """The inverse. The resolver stays the container's: programs have read that it is there."""
    gone = _addresses(endpoint)
    try:
        with _edited(container.hosts_path) as lines:
            lines[:] = [line for line in lines if not any(line.startswith(f"{address}\t") for address in gone)]
    except OSError as error:
        log.warning("cannot change files in /etc", container=container.id, error=str(error))


def _addresses(endpoint: Endpoint) -> list[str]:
    return [address.partition("/")[0] for address in (endpoint.address, endpoint.address6) if address]


def hosts_names(container: Container) -> str:
    """How a container calls itself, fully and in short."""
    hostname, domain = container.config.hostname, container.config.domainname
    return f"{hostname}.{domain} {hostname}" if domain else hostname


@contextmanager
def _edited(path: str) -> Iterator[list[str]]:
    """The lines of a file, written back in place."""
    lines = Path(path).read_text(errors="surrogateescape").splitlines(keepends=True)
    yield lines
    Path(path).write_text("".join(lines), errors="surrogateescape")


def _host_resolver(path: str = "/etc/resolv.conf") -> tuple[list[str], list[str], list[str]]:
    try:
        found = os.stat(path)
        return _resolver(path, found.st_ino, found.st_mtime_ns, found.st_size)
    except OSError:
        return [], [], []


@lru_cache(maxsize=4)
def _resolver(path: str, *_: int) -> tuple[list[str], list[str], list[str]]:
    """Servers, search domains and options; nobody changes the lists. It is read again when it is another file."""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    text = Path(path).read_text()
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
