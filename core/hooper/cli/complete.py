"""What may come next on a command line: commands, flags, their values, and the names of what the daemon has.

`hooper __complete SHELL WORDS…` prints a candidate a line, with a tab and a help where there is one. The last
word is the one being typed. A line that starts with a colon tells the shell what else fits: `:files` or
`:directories`. Nothing is ever printed on stderr, and no daemon is started.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import click

from hooper.api.errors import HooperError
from hooper.cli import complete_values
from hooper.cli.command import Command
from hooper.cli.flags import is_flag
from hooper.cli.session import Session

FILES, DIRECTORIES = ":files", ":directories"


class Candidate(NamedTuple):
    """A word that fits, or a directive, and what it is for."""

    value: str
    help: str = ""


class Place:
    """Where on the command line one is: the command, what it was given, and the flag that waits for a value."""

    def __init__(self, root: click.Group, words: Iterable[str]) -> None:
        self.context = click.Context(root, info_name="hooper")
        self.command: click.Command | None = root
        self.path: list[str] = []
        self.given: list[str] = []
        self.waiting: click.Option | None = None
        self.globals: dict[str, str] = {}
        self._only_words = False
        for word in words:
            self._take(word)

    @property
    def takes_flags(self) -> bool:
        """Whether a word with a dash would be a flag of the command."""
        foreign = isinstance(self.command, Command) and self.command.flags_first and self.given
        return not (self._only_words or foreign)

    def options(self) -> Iterator[click.Option]:
        """The flags of the command."""
        if self.command:
            for option in self.command.get_params(self.context):
                if isinstance(option, click.Option) and not option.hidden:
                    yield option

    def find(self, name: str) -> click.Option | None:
        """The flag of that name."""
        return next((one for one in self.options() if name in one.opts or name in one.secondary_opts), None)

    def _take(self, word: str) -> None:
        if self.waiting:
            self._note(self.waiting, word)
            self.waiting = None
        elif word == "--" and self.takes_flags:
            self._only_words = True
        elif is_flag(word) and self.takes_flags:
            self._take_flag(word)
        elif isinstance(self.command, click.Group):
            self.path.append(word)
            inner = self.command.get_command(self.context, word)
            if inner:
                self.context = click.Context(inner, parent=self.context, info_name=word)
            self.command = inner
        else:
            self.given.append(word)

    def _take_flag(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            # Of a cluster such as -it only the last may lack its value.
            letters = word[1:]
            takers = [at for at, letter in enumerate(letters) if (one := self.find(f"-{letter}")) and not one.is_flag]
            if not takers:
                return
            name, equals, value = f"-{letters[takers[0]]}", letters[takers[0] + 1 :], letters[takers[0] + 1 :]
        option = self.find(name)
        if option and not option.is_flag:
            if equals:
                self._note(option, value)
            else:
                self.waiting = option

    def _note(self, option: click.Option, value: str) -> None:
        if not self.path:
            self.globals[str(option.name)] = value


def print_candidates(root: click.Group, arguments: list[str]) -> int:
    """Prints what fits; the exit code is 0, whatever happens: a shell has no use for an error here."""
    shell, *words = arguments or [""]
    breaks = ""
    if shell == "bash":
        breaks = os.environ.get("COMP_WORDBREAKS", "")
        words = split(os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))])[1:]
    *before, typed = words or [""]
    skipped = max((typed.rfind(sign) for sign in ":=" if sign in breaks), default=-1) + 1
    for candidate in candidates(root, before, typed):
        value = candidate.value if candidate.value.startswith(":") else candidate.value[skipped:]
        with_help = candidate.help and shell != "bash"
        print(f"{value}\t{candidate.help}" if with_help else value)
    return 0


def split(line: str) -> list[str]:
    """A shell's line as words; the last is empty where a new one is about to start."""
    import shlex

    for end in ("", '"', "'"):
        lexer = shlex.shlex(line + end, posix=True, punctuation_chars=False)
        lexer.whitespace_split, lexer.commenters = True, ""
        try:
            words = list(lexer)
        except ValueError:
            continue
        return [*words, ""] if not end and line[-1:].isspace() else words
    return line.split()


def candidates(root: click.Group, before: list[str], typed: str) -> Iterator[Candidate]:
    """What fits after the words `before` and begins with `typed`; directives come in any case."""
    place = Place(root, before)
    prefix = ""
    if place.command is None:
        return
    name, equals, rest = typed.partition("=")
    option = place.find(name) if equals and typed.startswith("--") and place.takes_flags else None
    if option and not place.waiting:
        place.waiting, prefix, typed = option, f"{name}=", rest
    for value, help in _fitting(place, typed):
        if value.startswith(":"):
            yield Candidate(value)
        elif value.startswith(typed):
            yield Candidate(prefix + value, help)


def _fitting(place: Place, typed: str) -> Iterator[tuple[str, str]]:
    if place.waiting:
        yield from _values(place, complete_values.of_flag(place.path, place.waiting.opts), typed)
    elif typed.startswith("-") and place.takes_flags:
        yield from _flags(place)
    elif isinstance(place.command, click.Group):
        yield from _commands(place.command)
    elif isinstance(place.command, Command):
        kinds = complete_values.of_argument(place.path, place.command.usage_line, len(place.given))
        given = set(place.given)
        yield from (one for one in _values(place, kinds, typed) if one[0] not in given)


def _flags(place: Place) -> Iterator[tuple[str, str]]:
    for option in place.options():
        for name in sorted(option.opts, key=len, reverse=True):
            yield name, option.help or ""


def _commands(group: click.Group) -> Iterator[tuple[str, str]]:
    entries: dict[str, tuple[str, str]] = getattr(group, "entries", {})
    for name in sorted(entries):
        yield name, entries[name][1]


def _values(place: Place, kinds: Iterable[str], typed: str) -> Iterator[tuple[str, str]]:
    """The words of `kinds`: a directive, a word that starts with "=", or the name of a source."""
    for kind in kinds:
        if kind.startswith(":"):
            yield kind, ""
        elif kind.startswith("="):
            yield kind[1:], ""
        else:
            yield from ((word, "") for word in _ask(place, kind, typed))


def _ask(place: Place, kind: str, typed: str) -> list[str]:
    sources: dict[str, Callable[[], list[str]]] = {
        "context": _contexts,
        "filter": lambda: complete_values.filter_words(place.path, typed),
    }
    try:
        if kind in sources:
            return sources[kind]()
        return _of_daemon(place, kind)
    except (HooperError, OSError):
        return []


def _contexts() -> list[str]:
    from hooper.client.contexts import everything

    return [context.name for context in everything()]


def _of_daemon(place: Place, kind: str) -> list[str]:
    """The names of a kind; a trailing colon asks for one behind each, as `cp` has it."""
    from hooper.cli.names import names
    from hooper.client.api import ApiClient

    session = Session(place.globals.get("host", ""), place.globals.get("context", ""))
    client = ApiClient(session.address, session.address.connect(2.0))
    found = names(client, kind.removesuffix(":"))
    if kind == "image":
        # Most people leave the usual tag out.
        found = [short for name in found for short in {name, name.removesuffix(":latest")}]
    return [f"{name}:" for name in found] if kind.endswith(":") else found
