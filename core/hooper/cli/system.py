"""`hooper version` and `hooper info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from hooper.api.errors import HooperError
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.errors import report
from hooper.cli.flags import text
from hooper.cli.output import print_formatted
from hooper.cli.session import Session
from hooper.client.api import NEWEST


@command("version", "")
@text("-f", "--format", help="Format output: json, or a Go template")
@click.pass_obj
def version(session: Session, format: str) -> int:
    """Show the version information of client and daemon."""
    client = _client_version()
    try:
        server = session.client.get("/version")
        major, minor = session.client.version
        client["ApiVersion"] = f"{major}.{minor}"
    except HooperError as error:
        if not format:
            _print_version("Client", client)
        report(error)
        return 1
    if format:
        print_formatted({"Client": client, "Server": server}, format)
    else:
        _print_version("Client", client)
        print()
        _print_version("Server", server)
    return 0


def _client_version() -> dict[str, Any]:
    import platform

    from hooper import __version__

    newest = f"{NEWEST[0]}.{NEWEST[1]}"
    return {
        "Version": __version__,
        "ApiVersion": newest,
        "DefaultAPIVersion": newest,
        "PythonVersion": platform.python_version(),
        "Os": "linux",
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    }


def _print_version(title: str, about: Mapping[str, Any]) -> None:
    name = (about.get("Platform") or {}).get("Name")
    print(f"{title}: {name}" if name else f"{title}:")
    rows = [("Version", about.get("Version")), ("API version", _api_version(about))]
    rows += [(f"{key.removesuffix('Version')} version", about.get(key)) for key in ("PythonVersion", "GoVersion")]
    rows += [("Git commit", about.get("GitCommit")), ("Built", about.get("BuildTime"))]
    rows += [("OS/Arch", f"{about.get('Os')}/{about.get('Arch')}"), ("Kernel", about.get("KernelVersion"))]
    for key, value in rows:
        if value:
            print(f" {key + ':':<19}{value}")
    for component in about.get("Components") or ():
        if component["Name"] != "Engine":
            print(f" {component['Name']}:\n  {'Version:':<18}{component['Version']}")


def _api_version(about: Mapping[str, Any]) -> str:
    minimum = about.get("MinAPIVersion")
    return f"{about.get('ApiVersion')} (minimum version {minimum})" if minimum else str(about.get("ApiVersion"))


@command("info", "")
@text("-f", "--format", help="Format output: json, or a Go template")
@click.pass_obj
def info(session: Session, format: str) -> int:
    """Display system-wide information."""
    found = session.client.get("/info")
    client = _client_version()
    if format:
        print_formatted({**found, "ClientInfo": client}, format)
        return 0
    print(f"Client:\n Version:    {client['Version']}\n\nServer:")
    for depth, key, value in info_lines(found):
        print(f"{' ' * (depth + 1)}{key}: {value}".rstrip() if key else f"{' ' * (depth + 1)}{value}")
    for warning in found.get("Warnings") or ():
        report(warning)
    return 0


def info_lines(found: Mapping[str, Any]) -> Iterator[tuple[int, str, str]]:
    """(depth, key, value) of everything that `info` shows; a line without a key is a bare word."""
    yield 0, "Containers", str(found.get("Containers"))
    for name in ("Running", "Paused", "Stopped"):
        yield 1, name, str(found.get(f"Containers{name}"))
    yield 0, "Images", str(found.get("Images"))
    yield 0, "Server Version", str(found.get("ServerVersion"))
    yield 0, "Storage Driver", str(found.get("Driver"))
    for key, value in found.get("DriverStatus") or ():
        yield 1, key, value
    yield from _simple(found, ("LoggingDriver", "CgroupDriver", "CgroupVersion"))
    yield 0, "Plugins", ""
    for kind, names in (found.get("Plugins") or {}).items():
        if names:
            yield 1, kind, " ".join(names)
    yield 0, "Runtimes", " ".join(sorted(found.get("Runtimes") or ()))
    yield from _simple(found, ("DefaultRuntime", "InitBinary"))
    if options := found.get("SecurityOptions"):
        yield 0, "Security Options", ""
        for option in options:
            yield 1, "", option.removeprefix("name=").replace(",", " ")
    yield from _simple(found, ("KernelVersion", "OperatingSystem", "OSType", "Architecture"))
    yield 0, "CPUs", str(found.get("NCPU"))
    yield 0, "Total Memory", humanise.binary_size(found.get("MemTotal") or 0)
    yield from _simple(found, ("Name", "ID", "DockerRootDir", "Debug", "HttpProxy", "HttpsProxy", "NoProxy", "Labels"))
    yield from _simple(found, ("ExperimentalBuild", "LiveRestoreEnabled"))


_TITLES = {
    "OSType": "OSType",
    "DockerRootDir": "Root Dir",
    "Debug": "Debug Mode",
    "HttpProxy": "HTTP Proxy",
    "HttpsProxy": "HTTPS Proxy",
    "NoProxy": "No Proxy",
    "ExperimentalBuild": "Experimental",
}


def _simple(found: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    import re

    for key in keys:
        value = found.get(key)
        if value not in (None, "", []):
            title = _TITLES.get(key) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key)
            yield 0, title, str(value).lower() if isinstance(value, bool) else str(value)
