"""`hooper build`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click

from hooper.api.errors import InvalidArgument
from hooper.cli import values
from hooper.cli.command import command
from hooper.cli.credentials import all_auths
from hooper.cli.errors import GENERIC, report
from hooper.cli.flags import flag, no_trust, number, text
from hooper.cli.flags import platform as platform_flag
from hooper.cli.flags import values as several
from hooper.cli.progress import checked, show_progress
from hooper.cli.session import Session
from hooper.cli.settings import proxies
from hooper.cli.transfer import blocks
from hooper.cli.units import parse_size
from hooper.client.errors import ApiError

_REMOTE = ("http://", "https://", "git://", "git@", "github.com/")
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@command("build", "PATH | URL | -")
@several("--add-host", help="Add a custom host-to-IP mapping (host:ip)")
@several("--build-arg", help="Set build-time variables")
@several("--cache-from", help="Images to consider as cache sources")
@text("--cgroup-parent", help="Set the parent cgroup for the RUN instructions during build")
@number("-c", "--cpu-shares", help="CPU shares (relative weight)")
@number("--cpu-period", help="Limit the CPU CFS (Completely Fair Scheduler) period")
@number("--cpu-quota", help="Limit the CPU CFS (Completely Fair Scheduler) quota")
@text("--cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)")
@text("--cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)")
@text("-f", "--file", "dockerfile", help='Name of the Dockerfile (Default is "PATH/Dockerfile")')
@flag("--force-rm", help="Always remove intermediate containers")
@text("--iidfile", help="Write the image ID to the file")
@several("--label", help="Set metadata for an image")
@text("-m", "--memory", help="Memory limit", metavar="bytes")
@text("--memory-swap", help="Swap limit equal to memory plus swap: -1 to enable unlimited swap", metavar="bytes")
@text("--network", help="Set the networking mode for the RUN instructions during build")
@flag("--no-cache", help="Do not use cache when building the image")
@platform_flag()
@no_trust
@flag("--compress", help="Compress the build context with gzip")
@text("--isolation", help="Container isolation technology")
@text("--progress", help="How progress is shown: auto, plain, tty, quiet or rawjson")
@flag("--pull", help="Always attempt to pull a newer version of the image")
@flag("-q", "--quiet", help="Suppress the build output and print image ID on success")
@click.option("--rm/--no-rm", default=True, help="Remove intermediate containers after a successful build")
@several("--security-opt", help="Security options")
@text("--shm-size", help='Size of "/dev/shm"', metavar="bytes")
@flag("--squash", help="Squash newly built layers into a single new layer")
@several("-t", "--tag", help='Name and optionally a tag in the "name:tag" format')
@text("--target", help="Set the target build stage to build")
@several("--ulimit", help="Ulimit options", metavar="ulimit")
@click.argument("source")
@click.pass_obj
def build(session: Session, /, source: str, dockerfile: str, quiet: bool, iidfile: str, **options: Any) -> int:
    """Build an image from a Dockerfile."""
    style = values.one_of("--progress", options["progress"], ("auto", "plain", "tty", "quiet", "rawjson")) or "auto"
    quiet = quiet or style == "quiet"
    body, name, remote = _context(source, dockerfile)
    if options["compress"] and body and source != "-":
        body = compressed(body)
    given = dict(item.partition("=")[::2] for item in options["build_arg"])
    proxied = {key: value for key, value in proxies(str(session.address)).items() if key not in given}
    options["build_arg"] = (*options["build_arg"], *(f"{key}={value}" for key, value in proxied.items()))
    query = {**_query(options), "dockerfile": name or None, "remote": remote or None, "q": quiet or None}
    headers = {"Content-Type": "application/x-tar", **all_auths()}
    messages = session.client.json_lines("POST", "/build", query, body=body, headers=headers)
    try:
        identifier = _quiet(messages) if quiet else _identifier(show_progress(messages, style=style))
    except ApiError as error:
        report(error)
        # A RUN step that failed tells its own exit code in the place of a status.
        return error.status if error.status < 256 else GENERIC
    if quiet:
        print(identifier)
    if iidfile:
        Path(iidfile).write_text(identifier, encoding="ascii")
    return 0


def _identifier(aux: list[Any]) -> str:
    return next((item["ID"] for item in reversed(aux) if isinstance(item, dict) and "ID" in item), "")


def _quiet(messages: Iterator[Any]) -> str:
    """The image's id; what was printed is shown only if the build fails."""
    printed: list[str] = []
    aux: list[Any] = []
    try:
        for message in checked(messages):
            printed.append(message.get("stream", ""))
            aux.append(message.get("aux"))
    except ApiError:
        sys.stderr.write("".join(printed))
        raise
    return _identifier(aux) or "".join(printed).strip()


def _query(options: dict[str, Any]) -> dict[str, Any]:
    memory_swap = options["memory_swap"]
    arguments = {
        key: value if equals else os.environ.get(key)
        for key, equals, value in (item.partition("=") for item in options["build_arg"])
    }
    return {
        "t": options["tag"],
        "buildargs": json.dumps(arguments) if arguments else None,
        "labels": json.dumps(values.pairs("--label", options["label"])) if options["label"] else None,
        "cachefrom": json.dumps(options["cache_from"]) if options["cache_from"] else None,
        "extrahosts": ",".join(values.hosts(options["add_host"])) or None,
        "ulimits": json.dumps(values.ulimits(options["ulimit"])) if options["ulimit"] else None,
        "nocache": options["no_cache"] or None,
        "pull": options["pull"] or None,
        "rm": options["rm"],
        "forcerm": options["force_rm"] or None,
        "squash": options["squash"] or None,
        "target": options["target"] or None,
        "platform": options["platform"] or None,
        "isolation": options["isolation"] or None,
        "networkmode": options["network"] or None,
        "memory": _bytes("--memory", options["memory"]),
        "memswap": -1 if memory_swap == "-1" else _bytes("--memory-swap", memory_swap),
        "shmsize": _bytes("--shm-size", options["shm_size"]),
        "cpushares": options["cpu_shares"],
        "cpuperiod": options["cpu_period"],
        "cpuquota": options["cpu_quota"],
        "cpusetcpus": options["cpuset_cpus"] or None,
        "cpusetmems": options["cpuset_mems"] or None,
        "cgroupparent": options["cgroup_parent"] or None,
        "securityopt": json.dumps(options["security_opt"]) if options["security_opt"] else None,
    }


def compressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    """A stream in gzip's format."""
    import zlib

    packer = zlib.compressobj(wbits=31)
    for part in parts:
        if data := packer.compress(part):
            yield data
    yield packer.flush()


def _bytes(name: str, value: str) -> int | None:
    return values.checked(name, value, parse_size, "512m") if value else None


def _context(source: str, dockerfile: str) -> tuple[Iterator[bytes] | None, str, str]:
    """(tar stream, name of the Dockerfile within it, URL that the daemon fetches)."""
    if source == "-":
        return (*_from_stdin(dockerfile), "")
    if source.startswith(_REMOTE):
        return None, dockerfile, source
    context = Path(source)
    if not context.is_dir():
        raise InvalidArgument(
            f'unable to prepare context: path "{source}" not found',
            remedy="Give the directory that holds what the Dockerfile copies, often the present one: .",
        )
    return (*_from_directory(context, dockerfile), "")


def _from_stdin(dockerfile: str) -> tuple[Iterator[bytes], str]:
    """An archive as it is; anything else is the Dockerfile of an empty context."""
    from hooper.cli.context import END, pack_file

    head = sys.stdin.buffer.read(512)
    is_tar = head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + len(_TAR_MAGIC)] == _TAR_MAGIC
    if is_tar or head.startswith(_COMPRESSED):
        return chain([head], blocks(sys.stdin.buffer)), dockerfile
    if not head:
        raise InvalidArgument("unable to prepare context: stdin is empty", remedy="Pipe a Dockerfile or a tar in.")
    return chain(pack_file("Dockerfile", head + sys.stdin.buffer.read()), [END]), ""


def _from_directory(context: Path, dockerfile: str) -> tuple[Iterator[bytes], str]:
    """A Dockerfile from outside the context, or from stdin ("-"), goes along under a name that nothing else has."""
    from hooper.cli.context import ignored, pack, pack_file

    if dockerfile == "-":
        content, outside = sys.stdin.buffer.read(), True
    else:
        path = Path(dockerfile) if dockerfile else context / "Dockerfile"
        if not path.is_file():
            raise InvalidArgument(
                f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: {path}: no such file",
                remedy="Name the Dockerfile with --file.",
            )
        outside = not path.resolve().is_relative_to(context.resolve())
        content = path.read_bytes() if outside else b""
    if outside:
        name = f".dockerfile.{os.urandom(10).hex()}"
        files = pack(context, ignored(context, "Dockerfile"), frozenset((".dockerignore",)))
        return chain(pack_file(name, content), files), name
    name = str(path.resolve().relative_to(context.resolve()))
    return pack(context, ignored(context, name), frozenset((".dockerignore", name))), name
