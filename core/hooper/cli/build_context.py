"""Where the files of a build are: a directory, an archive or a Dockerfile on stdin, or a URL for the daemon."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from hooper.api.errors import InvalidArgument
from hooper.api.patterns import Patterns, parse_ignore_file
from hooper.cli.build_flags import is_remote
from hooper.cli.errors import BadFlag

_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_USUAL = ("Dockerfile", "dockerfile")


class Source(NamedTuple):
    """One of `directory`, `remote` and `archive` is set; none of them for a recipe alone, which `recipe` is then.

    `name` is the recipe's name in the context, "" for the usual one; `recipe` is its content where it is in no context,
    and `ignore` that of its own ignore file.
    """

    directory: str = ""
    remote: str = ""
    archive: Iterator[bytes] | None = None
    name: str = ""
    recipe: bytes | None = None
    ignore: bytes | None = None

    def always(self) -> frozenset[str]:
        """Files that go along with a directory in any case: they say what is built, and what is ignored."""
        return frozenset((self.name, f"{self.name}.dockerignore", ".dockerignore")) if self.name else frozenset()

    def extra_files(self) -> dict[str, bytes]:
        """What goes along with a directory, whatever is ignored: the recipe from elsewhere, under a name that nothing
        else has, and ignore rules that keep it out of every COPY, as Docker's classic builder needs them."""
        if self.recipe is None:
            return {}
        rules = self.ignore
        if rules is None:
            rules = _content(Path(self.directory) / ".dockerignore") if self.directory else None
        rules = b".dockerignore" if rules is None else rules
        return {self.name: self.recipe, ".dockerignore": rules + b"\n" + self.name.encode() + b"\n"}


def find_source(source: str, dockerfile: str) -> Source:
    """What the arguments of `build` name. InvalidArgument for what is not there."""
    if source == "-":
        if dockerfile == "-":
            raise BadFlag("--file", "-", "stdin is the context already", "--file Dockerfile.test -")
        return _from_stdin(dockerfile)
    if Path(source).is_dir():
        return _from_directory(Path(source), dockerfile)
    if not is_remote(source):
        raise InvalidArgument(
            f'unable to prepare context: path "{source}" not found',
            remedy="Give the directory that holds what the Dockerfile copies, often the present one: .",
        )
    if dockerfile == "-":
        raise BadFlag("--file", "-", "a context from elsewhere has its own Dockerfile", "--file Dockerfile.test URL")
    return Source(remote=source, name=dockerfile)


def _from_stdin(dockerfile: str) -> Source:
    """An archive as it is; anything else is the Dockerfile of an empty context."""
    from hooper.cli.transfer import blocks

    head = sys.stdin.buffer.read(512)
    is_tar = head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + len(_TAR_MAGIC)] == _TAR_MAGIC
    if is_tar or head.startswith(_COMPRESSED):
        return Source(archive=chain([head], blocks(sys.stdin.buffer)), name=dockerfile)
    if not head:
        raise InvalidArgument("unable to prepare context: stdin is empty", remedy="Pipe a Dockerfile or a tar in.")
    return Source(name="Dockerfile", recipe=head + sys.stdin.buffer.read())


def _from_directory(context: Path, dockerfile: str) -> Source:
    if dockerfile == "-":
        return _with_recipe(context, sys.stdin.buffer.read(), None)
    paths = [Path(dockerfile)] if dockerfile else [context / name for name in _USUAL]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise InvalidArgument(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: {paths[0]}: no such file",
            remedy="Name the Dockerfile with --file.",
        )
    inside, outside = path.resolve(), context.resolve()
    if not inside.is_relative_to(outside):
        return _with_recipe(context, path.read_bytes(), _content(Path(f"{path}.dockerignore")))
    return Source(directory=str(context), name=str(inside.relative_to(outside)))


def _with_recipe(context: Path, recipe: bytes, ignore: bytes | None) -> Source:
    import hashlib

    # The same name for the same content, so that nothing looks new that is not.
    name = f".dockerfile.{hashlib.sha256(recipe).hexdigest()[:20]}"
    return Source(directory=str(context), name=name, recipe=recipe, ignore=ignore)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def patterns_of(source: Source) -> Patterns:
    """The rules for a directory: the recipe's own, <Dockerfile>.dockerignore, if they are there, else .dockerignore."""
    if source.ignore is not None:
        return _patterns(source.ignore, f"{source.name}.dockerignore")
    names = [".dockerignore"] if source.recipe is not None else [f"{source.name}.dockerignore", ".dockerignore"]
    for name in names:
        try:
            return _patterns((Path(source.directory) / name).read_bytes(), name)
        except FileNotFoundError:
            continue
    return Patterns(())


def _patterns(content: bytes, file: str) -> Patterns:
    return Patterns(parse_ignore_file(content.decode("utf-8", "surrogateescape"), file))
