"""`hooper version` and `hooper info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from hooper.api.errors import HooperError
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.errors import debugging, report, warn
from hooper.cli.flags import text
from hooper.cli.output import print_formatted
from hooper.cli.session import Session
from hooper.client.api import NEWEST


@command("version", "")
@text("-f", "--format", help="Format output: json, or a Go template")
@click.pass_obj
def version(session: Session, format: str) -> int:
    """Show the version information of client and daemon."""
    client = client_version(session)
    server = None
    failure: HooperError | None = None
    try:
        server = session.client.get("/version")
        major, minor = session.client.version
        client["ApiVersion"] = f"{major}.{minor}"
    except HooperError as error:
        failure = error
    if format:
        print_formatted({"Client": client, "Server": server}, format)
    else:
        print("\n".join(client_lines(client)))
        if server:
            print("\n".join(["", *server_lines(server)]))
    if failure:
        report(failure)
    return 1 if failure else 0


def client_version(session: Session) -> dict[str, Any]:
    """What is known of this program, under docker's names."""
    import platform

    from hooper import __version__

    newest = f"{NEWEST[0]}.{NEWEST[1]}"
    return {
        "Version": __version__,
        "ApiVersion": newest,
        "DefaultAPIVersion": newest,
        "GitCommit": "",
        "GoVersion": "",
        "PythonVersion": platform.python_version(),
        "Os": "linux",
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "BuildTime": "",
        "Context": session.context,
    }


def client_lines(about: Mapping[str, Any]) -> Iterator[str]:
    """The client's part of `version`."""
    used, newest = about["ApiVersion"], about["DefaultAPIVersion"]
    yield "Client:"
    yield from _facts(
        1,
        ("Version", about["Version"]),
        ("API version", used if used == newest else f"{used} (downgraded from {newest})"),
        ("Python version", about["PythonVersion"]),
        ("OS/Arch", f"{about['Os']}/{about['Arch']}"),
        ("Context", about["Context"]),
    )


def server_lines(about: Mapping[str, Any]) -> Iterator[str]:
    """The daemon's part of `version`: the engine, then what else it is made of."""
    name = (about.get("Platform") or {}).get("Name")
    yield f"Server: {name}" if name else "Server:"
    yield " Engine:"
    yield from _facts(
        2,
        ("Version", about.get("Version")),
        ("API version", f"{about.get('ApiVersion')} (minimum version {about.get('MinAPIVersion')})"),
        ("Go version", about.get("GoVersion")),
        ("Git commit", about.get("GitCommit")),
        ("Built", humanise.ansi_time(about.get("BuildTime") or "")),
        ("OS/Arch", f"{about.get('Os')}/{about.get('Arch')}"),
        ("Kernel", about.get("KernelVersion")),
        ("Experimental", str(bool(about.get("Experimental"))).lower()),
    )
    for component in about.get("Components") or ():
        if component["Name"] != "Engine":
            details = component.get("Details") or {}
            yield f" {component['Name']}:"
            yield from _facts(2, ("Version", component["Version"]), ("GitCommit", details.get("GitCommit")))


def _facts(depth: int, *facts: tuple[str, Any]) -> Iterator[str]:
    for title, value in facts:
        if value:
            yield f"{' ' * depth}{title + ':':<{20 - depth}}{value}"


@command("dial-stdio", "")
@click.pass_obj
def dial_stdio(session: Session) -> None:
    """Connect standard input and output to the daemon: what `-H ssh://HOST` runs on the other host."""
    from hooper.client.autostart import connect
    from hooper.client.tunnel import dial_stdio

    dial_stdio(connect(session.address, start=not session.explicit))


@command("info", "")
@text("-f", "--format", help="Format output: json, or a Go template")
@click.pass_obj
def info(session: Session, format: str) -> int:
    """Display system-wide information."""
    client = client_version(session)
    client |= {"Debug": debugging(), "Plugins": [], "Warnings": None}
    del client["ApiVersion"]
    try:
        found = session.client.get("/info")
    except HooperError as error:
        if format:
            print_formatted({"ServerErrors": [str(error)], "ClientInfo": client}, format)
        report(error)
        return 1
    if format:
        print_formatted({**found, "ClientInfo": client}, format)
        return 0
    about = (client["Version"], client["Context"], str(debugging()).lower())
    print("Client:\n Version:    {}\n Context:    {}\n Debug Mode: {}\n\nServer:".format(*about))
    for depth, key, value in info_lines(found):
        print(f"{' ' * (depth + 1)}{key}: {value}".rstrip(" ") if key else f"{' ' * (depth + 1)}{value}")
    for warning in found.get("Warnings") or ():
        warn(warning.removeprefix("WARNING: "))
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
    if found.get("Plugins"):
        yield 0, "Plugins", ""
    for kind, names in (found.get("Plugins") or {}).items():
        if names:
            yield 1, kind, " ".join(names)
    yield 0, "Runtimes", " ".join(sorted(found.get("Runtimes") or ()))
    yield from _simple(found, ("DefaultRuntime", "InitBinary"))
    for name in ("Containerd", "Runc", "Init"):
        if commit := (found.get(f"{name}Commit") or {}).get("ID"):
            yield 0, f"{name.lower()} version", commit
    if options := found.get("SecurityOptions"):
        yield 0, "Security Options", ""
        for option in options:
            first, *more = (part.partition("=") for part in option.split(","))
            yield 1, "", first[2] or first[0]
            yield from ((2, key.capitalize(), value) for key, _, value in more)
    yield from _simple(found, ("KernelVersion", "OperatingSystem", "OSType", "Architecture"))
    yield 0, "CPUs", str(found.get("NCPU"))
    yield 0, "Total Memory", humanise.binary_size(found.get("MemTotal") or 0)
    yield from _simple(found, ("Name", "ID", "DockerRootDir", "Debug", "HttpProxy", "HttpsProxy", "NoProxy"))
    yield from _several("Labels", found.get("Labels") or ())
    yield from _simple(found, ("ExperimentalBuild",))
    registries = found.get("RegistryConfig") or {}
    secure = registries.get("IndexConfigs") or {}
    insecure = [name for name, one in secure.items() if not one.get("Secure", True)]
    yield from _several("Insecure Registries", [*insecure, *(registries.get("InsecureRegistryCIDRs") or ())])
    yield from _several("Registry Mirrors", registries.get("Mirrors") or ())
    yield from _simple(found, ("LiveRestoreEnabled",))


def _several(title: str, items: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    if items:
        yield 0, title, ""
        yield from ((1, "", item) for item in items)


_TITLES = {
    "OSType": "OSType",
    "DockerRootDir": "Docker Root Dir",
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
