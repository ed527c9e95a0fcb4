"""Which files of a tree a COPY means, and the digest of all that it would write. Pure: a `View` is what it knows.

Paths are bytes, relative and clean; the root is b"".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, Protocol

from hooper.api.patterns import Patterns, Wildcards, fixed_parent, has_wildcards, unescaped

_LINKS = 40
"""As many are followed on the way to a file as the kernel follows."""


class View(Protocol):
    """A tree, as far as it has to be known. Nothing here follows a link."""

    def kind(self, path: bytes) -> str:
        """file, directory, symlink, other; "" if nothing is there."""

    def link(self, path: bytes) -> bytes:
        """Where a symlink points to."""

    def names(self, path: bytes) -> Sequence[bytes]:
        """What is in a directory, sorted."""

    def digest(self, path: bytes) -> str:
        """Of all that a copy carries over: content and metadata without times; of a directory of itself alone."""


class Item(NamedTuple):
    """One file, or the content of one directory."""

    path: bytes
    """With no link in it."""
    name: bytes
    """What it is called at a destination that is a directory; b"" for a directory, whose content goes there."""
    only: list[bytes] | None = None
    """Of a directory what is copied, relative to it, parents first; None: everything."""


class Chosen(NamedTuple):
    items: list[Item]
    digest: str
    matched: int
    """How many files and directories were named."""


class Missing(Exception):
    """What is named is not there."""

    def __init__(self, path: str, near: str = "", outside: str = "", *, wild: bool = False) -> None:
        super().__init__(path)
        self.path, self.near, self.wild = path, near, wild
        """`near` is the nearest name that is there; `wild`: no file matches."""
        self.outside = outside
        """Where a link on the way leads, if that is out of the tree."""

    def to_wire(self) -> dict[str, Any]:
        """For `from_wire`. Names need not be UTF-8."""
        return {"missing": [os.fsencode(text) for text in (self.path, self.near, self.outside)], "wild": self.wild}


def from_wire(wire: Mapping[str, Any]) -> Chosen:
    """What `hooper.content.listing.choose_files` has returned. Missing."""
    if missing := wire.get("missing"):
        raise Missing(*(os.fsdecode(each) for each in missing), wild=wire["wild"])
    return Chosen([Item(*item) for item in wire["items"]], wire["digest"], wire["matched"])


def choose(view: View, paths: Sequence[str], *, literal: bool, parents: bool, exclude: Sequence[str]) -> Chosen:
    """What `paths` mean, by the rules of `hooper.api.build_graph.CopySource` and `Copy`. Missing, InvalidArgument."""
    chooser = _Chooser(view, exclude)
    for path in paths:
        if parents:
            chooser.with_parents(path, literal=literal)
        elif literal or not has_wildcards(path):
            chooser.named(clean(path))
        else:
            chooser.matching(path)
    if not chooser.matched:
        raise Missing(" ".join(paths), wild=True)
    return Chosen(chooser.items, chooser.digest(), chooser.matched)


def clean(path: str) -> bytes:
    """As a path from the root: "..", at the root, is the root."""
    normal = os.path.normpath("/" + path.lstrip("/")).lstrip("/")
    return os.fsencode(normal)


def resolve(view: View, path: bytes) -> tuple[bytes | None, str]:
    """The path with links followed, inside the tree as its root; None if nothing is there.

    Also where the first link points to that would lead out of the tree if its root were not its end.
    """
    todo = path.split(b"/")[::-1] if path else []
    found: list[bytes] = []
    links, outside = 0, ""
    while todo:
        name = todo.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if found:
                found.pop()
            continue
        whole = b"/".join([*found, name])
        kind = view.kind(whole)
        if kind == "symlink":
            links += 1
            target = view.link(whole)
            if not outside and _leads_out(found, target):
                outside = os.fsdecode(target)
            if links > _LINKS:
                return None, outside
            if target.startswith(b"/"):
                found = []
            todo += target.split(b"/")[::-1]
        elif not kind or (kind != "directory" and any(part not in (b"", b".") for part in todo)):
            return None, outside
        else:
            found.append(name)
    return b"/".join(found), outside


def _leads_out(directory: Sequence[bytes], target: bytes) -> bool:
    if target.startswith(b"/"):
        return True
    depth = len(directory)
    for part in target.split(b"/"):
        depth += {b"": 0, b".": 0, b"..": -1}.get(part, 1)
        if depth < 0:
            return True
    return False


def nearest(view: View, path: bytes) -> str:
    """The most similar name that is there, in the directory where the path ends to be; "" if none is."""
    directory, _, _ = path.rpartition(b"/")
    name = path[len(directory) :].lstrip(b"/")
    real, _ = resolve(view, directory)
    if real is None or view.kind(real) not in ("directory", ""):
        return nearest(view, directory) if directory else ""
    names = {os.fsdecode(each): each for each in view.names(real)}
    wanted = os.fsdecode(name)
    same = [each for each in names if each.casefold() == wanted.casefold()]
    close = same or get_close_matches(wanted, list(names)[:2000], n=1, cutoff=0.6)
    if not close:
        return ""
    return os.fsdecode(b"/".join(part for part in (directory, names[close[0]]) if part))


class _Chooser:
    def __init__(self, view: View, exclude: Sequence[str]) -> None:
        self._view, self._exclude = view, Patterns(exclude)
        self._hash = hashlib.sha256()
        self.items: list[Item] = []
        self.matched = 0

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def _add(self, name: bytes, digest: str) -> None:
        self._hash.update(b"%s\0%s\0" % (name, digest.encode()))

    # --- names --------------------------------------------------------------------------------------

    def named(self, path: bytes) -> None:
        """One path; links in it are followed."""
        real, outside = resolve(self._view, path)
        if real is None or (real and not self._view.kind(real)):
            raise Missing(os.fsdecode(path), "" if outside else nearest(self._view, path), outside)
        self.matched += 1
        if not real or self._view.kind(real) == "directory":
            self._directory(real)
            return
        name = path.rpartition(b"/")[2]
        if self._exclude.matches(os.fsdecode(name)):
            return
        self.items.append(Item(real, name))
        self._add(name, self._view.digest(real))

    def _directory(self, path: bytes) -> None:
        entries = list(self._below(path, b""))
        self._hash.update(b"directory\0")
        for relative in entries:
            self._add(relative, self._view.digest(_join(path, relative)))
        self._hash.update(b"end\0")
        self.items.append(Item(path, b"", entries if self._exclude else None))

    def _below(self, path: bytes, relative: bytes) -> Iterator[bytes]:
        """What is in a directory and not excluded, relative to where `relative` is. Parents come first.

        A directory that is excluded comes along if something in it does.
        """
        yield from _walk(
            self._view,
            path,
            relative,
            included=lambda text: not self._exclude.matches(text),
            prunes=self._exclude.prunes if self._exclude else None,
        )

    # --- patterns -----------------------------------------------------------------------------------

    def matching(self, pattern: str) -> None:
        """All that match, each as if it had been named."""
        normal = os.path.normpath("/" + pattern.lstrip("/")).lstrip("/")
        found = list(self._expanded(Wildcards(normal)))
        if not found:
            plain = os.fsencode(unescaped(normal))
            if os.fsdecode(plain) != normal and resolve(self._view, plain)[0] is not None:
                found = [plain]
        for path in found:
            self.named(path)

    def _expanded(self, wildcards: Wildcards) -> Iterator[bytes]:
        paths = [b""]
        for index, part in enumerate(wildcards.parts):
            # What comes before the first wildcard is a plain path: links in it are followed.
            first = all(isinstance(each, str) for each in wildcards.parts[:index])
            if isinstance(part, str):
                paths = [_join(path, os.fsencode(part)) for path in paths]
                paths = paths if first else [path for path in paths if self._view.kind(path)]
                continue
            matches: list[bytes] = []
            for path in paths:
                real = resolve(self._view, path)[0] if first else path
                if real is None or (real and self._view.kind(real) != "directory"):
                    continue
                matches += [_join(real, name) for name in self._view.names(real) if part(os.fsdecode(name))]
            paths = matches
        yield from paths

    # --- with parents -------------------------------------------------------------------------------

    def with_parents(self, path: str, *, literal: bool) -> None:
        """A path, or all that match, below where its "/./" is, with the directories on the way."""
        above, pivot, below = path.partition("/./")
        if not pivot:
            above, below = "", path
        for base in dict.fromkeys(self._bases(above, literal=literal)):
            self._below_pivot(base, below, literal=literal)

    def _bases(self, path: str, *, literal: bool) -> Iterator[bytes]:
        candidates: Sequence[bytes] = [clean(path)]
        if has_wildcards(path) and not literal:
            candidates = list(self._expanded(Wildcards(os.fsdecode(clean(path)))))
        for candidate in candidates:
            real, outside = resolve(self._view, candidate)
            if real is None or (real and self._view.kind(real) != "directory"):
                if len(candidates) == 1:
                    raise Missing(os.fsdecode(candidate), nearest(self._view, candidate), outside)
                continue
            yield real

    def _below_pivot(self, base: bytes, path: str, *, literal: bool) -> None:
        wanted = os.fsdecode(clean(path))
        wild = not literal and has_wildcards(path)
        if not wanted:
            self._kept(base, list(self._below(base, b"")))
            return
        if not wild and not self._view.kind(_join(base, os.fsencode(wanted))):
            whole = _join(base, os.fsencode(wanted))
            real, outside = resolve(self._view, whole)
            if real is None:
                raise Missing(os.fsdecode(whole), "" if outside else nearest(self._view, whole), outside)
        start = os.fsencode(fixed_parent(wanted)) if wild else os.fsencode(wanted)
        entries = list(self._from(base, start, Patterns([wanted]) if wild else None))
        if entries or not wild:
            self._kept(base, entries)

    def _from(self, base: bytes, start: bytes, patterns: Patterns | None) -> Iterator[bytes]:
        """What `patterns` match at and below `start`, and is not excluded; None: everything."""

        def included(text: str) -> bool:
            return (patterns is None or patterns.matches(text)) and not self._exclude.matches(text)

        here: list[bytes] = []
        if start and included(os.fsdecode(start)):
            here.append(start)
        prunes = self._exclude.prunes if self._exclude else None
        if not start or self._view.kind(_join(base, start)) == "directory":
            here += _walk(self._view, base, start, included=included, prunes=prunes)
        yield from _parents(start) if here else ()
        if here and start and here[0] != start:
            yield start
        yield from here

    def _kept(self, base: bytes, entries: list[bytes]) -> None:
        self.matched += 1
        self._hash.update(b"parents\0")
        for relative in entries:
            self._add(relative, self._view.digest(_join(base, relative)))
        self._hash.update(b"end\0")
        self.items.append(Item(base, b"", entries))


def _walk(
    view: View, base: bytes, relative: bytes, *, included: Callable[[str], bool], prunes: Callable[[str], bool] | None
) -> Iterator[bytes]:
    """What is included below `base`/`relative`, relative to `base`, and before it the directories that it is in."""
    # Of each directory on the way its path, whether it was told, and the names that are left.
    stack: list[tuple[bytes, bool, Iterator[bytes]]] = [(relative, True, iter(view.names(_join(base, relative))))]
    while stack:
        directory, _, names = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            continue
        path = _join(directory, name)
        text = os.fsdecode(path)
        wanted = included(text)
        if wanted:
            for index, (parent, told, left) in enumerate(stack):
                if not told:
                    yield parent
                    stack[index] = parent, True, left
            yield path
        whole = _join(base, path)
        if view.kind(whole) == "directory" and (wanted or prunes is None or not prunes(text)):
            stack.append((path, wanted, iter(view.names(whole))))


def _parents(path: bytes) -> Iterator[bytes]:
    parts = path.split(b"/")
    for depth in range(1, len(parts)):
        yield b"/".join(parts[:depth])


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory and name else directory or name
