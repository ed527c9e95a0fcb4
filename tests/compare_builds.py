"""Builds directories with hooper and with a real dockerd, and prints in what the images differ.

    scripts/compare-builds [--image ARCHIVE]… [--loose PATTERN]… DIRECTORY… [-- FLAG…]

Each directory is a build context with its Dockerfile. The archives (docker save) hold the images that these are FROM;
both daemons load them. The flags go to both `docker build`. What is compared: the configuration, and of every path
its type, mode, owner, link target, extended attributes, device number and content; and its time, if one of the two is
older than the run. Paths that match a loose pattern (logs, caches) may differ. The exit code is 1 if anything does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch
from pathlib import Path

import support

CONFIG = (
    "Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck",
    "OnBuild", "Shell",
)  # fmt: skip
LOOSE = (
    "var/log/*", "var/cache/*", "var/lib/apt/*", "var/lib/dpkg/*-old", "etc/*-", "etc/ld.so.cache", "etc/machine-id",
    "tmp/*", "root/.cache/*", "root/.npm/*", "*.pyc", "*/__pycache__",
)  # fmt: skip
_MADE_BY_CREATE = (
    "", "etc", "dev", "proc", "sys", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab",
    "dev/*", "proc/*", "sys/*",
)  # fmt: skip
"""What a container has besides the image's files, and the directories whose times that changes."""
_KINDS = {
    tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hard link", tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "character device", tarfile.BLKTYPE: "block device",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """What is at a path. The names of a file with several are all in `link`, whichever the tar has as a file."""

    kind: str
    mode: str
    owner: str
    link: str
    content: str
    device: str
    attributes: str
    mtime: int


def main() -> int:
    options = _options()
    same = True
    with tempfile.TemporaryDirectory(prefix="hpt-", dir="/tmp") as directory:
        place = Path(directory)
        with support.hooper(place / "hooper") as hooper, support.dockerd(place / "dockerd") as dockerd:
            for archive in options.image:
                for engine in (hooper, dockerd):
                    engine.docker("load", "-i", archive)
            for number, context in enumerate(options.context):
                print(f"== {context}", flush=True)
                for line in compare((hooper, dockerd), context, f"compared{number}", options):
                    same = False
                    print(f"  {line}", flush=True)
    return 0 if same else 1


def _options() -> argparse.Namespace:
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser("compare-builds", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--image", action="append", default=[], metavar="ARCHIVE")
    parser.add_argument("--loose", action="append", default=list(LOOSE), metavar="PATTERN")
    parser.add_argument("context", nargs="+", metavar="DIRECTORY")
    options = parser.parse_args(given[:end])
    options.flags = given[end + 1 :]
    return options


def compare(
    engines: tuple[support.Engine, support.Engine], context: str, tag: str, options: argparse.Namespace
) -> Iterator[str]:
    """A line for each difference; hooper's side is on the left."""
    begin = int(time.time())
    built = [engine.docker("build", "-t", tag, *options.flags, context, check=False) for engine in engines]
    for name, done in zip(("hooper", "dockerd"), built, strict=True):
        if done.returncode:
            yield f"{name} cannot build it: {done.stderr.strip()[-600:]}"
    if any(done.returncode for done in built):
        return
    left, right = (_config(engine, tag) for engine in engines)
    yield from (f"{key}: {left[key]} | {right[key]}" for key in CONFIG if left[key] != right[key])
    yield from _differences(*(_tree(engine, tag) for engine in engines), begin, options.loose)


def _config(engine: support.Engine, tag: str) -> dict[str, object]:
    found = json.loads(engine.docker("image", "inspect", tag).stdout)[0]["Config"]
    return {key: found.get(key) or None for key in CONFIG}


def _differences(
    left: Mapping[str, Node], right: Mapping[str, Node], begin: int, loose: Sequence[str]
) -> Iterator[str]:
    for path in sorted({*left, *right}):
        here, there = left.get(path), right.get(path)
        if any(fnmatch(path, pattern) for pattern in (*_MADE_BY_CREATE, *loose)):
            continue
        if here is None or there is None:
            yield f"{path}: only {'dockerd' if here is None else 'hooper'} has it"
            continue
        if min(here.mtime, there.mtime) >= begin:
            here, there = replace(here, mtime=0), replace(there, mtime=0)
        pairs = [(each.name, getattr(here, each.name), getattr(there, each.name)) for each in fields(Node)]
        if changed := [f"{name} {one} | {other}" for name, one, other in pairs if one != other]:
            yield f"{path}: {', '.join(changed)}"


def _tree(engine: support.Engine, tag: str) -> dict[str, Node]:
    """Every path of a container that was made from the image."""
    container = engine.docker("create", tag, "x").stdout.strip()
    found: dict[str, Node] = {}
    names = defaultdict(list)
    command = ["docker", "-H", engine.address, "export", container]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as export,
        tarfile.open(fileobj=export.stdout, mode="r|") as archive,
    ):
        for member in archive:
            path = member.name.removeprefix("./").strip("/")
            found[path] = _node(archive, member)
            if member.islnk():
                names[member.linkname.removeprefix("./").strip("/")].append(path)
    engine.docker("rm", container)
    for first, others in names.items():
        node = replace(found[first], link=" ".join(sorted((first, *others))))
        found.update(dict.fromkeys((first, *others), node))
    return found


def _node(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    file = archive.extractfile(member) if member.isreg() else None
    return Node(
        kind=_KINDS.get(member.type, "file"),
        mode=f"{member.mode & 0o7777:04o}",
        owner=f"{member.uid}:{member.gid}",
        link=member.linkname,
        content=f"{member.size} bytes, {hashlib.sha256(file.read()).hexdigest()[:12]}" if file else "",
        device=f"{member.devmajor}:{member.devminor}" if member.isdev() and not member.isfifo() else "",
        attributes=" ".join(sorted(f"{key}={value!r}" for key, value in member.pax_headers.items() if "xattr" in key)),
        mtime=int(member.mtime),
    )


if __name__ == "__main__":
    sys.exit(main())
