"""Flags as users of docker write them, brought into the form that click reads.

Beyond click's own syntax there are `--rm=false`, `-d=true` and `-e=KEY=value`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from hooper.cli.errors import BadFlag

F = TypeVar("F", bound=Callable[..., Any])
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def flag(*names: str, help: str) -> Callable[[F], F]:
    """A switch, off by default."""
    return click.option(*names, is_flag=True, help=help)


def text(*names: str, help: str, metavar: str = "string") -> Callable[[F], F]:
    """A flag with one value; the empty string if it is not given."""
    return click.option(*names, default="", help=help, metavar=metavar)


def number(*names: str, help: str) -> Callable[[F], F]:
    """A flag with a whole number; None if it is not given."""
    return click.option(*names, type=int, help=help, metavar="int")


def platform(help: str = "Set platform if server is multi-platform capable") -> Callable[[F], F]:
    """--platform; DOCKER_DEFAULT_PLATFORM stands for it where it is not given."""
    return click.option("--platform", default="", envvar="DOCKER_DEFAULT_PLATFORM", help=help, metavar="string")


def no_trust(function: F) -> F:
    """--disable-content-trust, which scripts give; hooper verifies digests and knows no signatures of that kind."""
    option = click.option(
        "--disable-content-trust", is_flag=True, default=True, expose_value=False, hidden=True, help="No effect"
    )
    return option(function)


def values(*names: str, help: str, metavar: str = "list") -> Callable[[F], F]:
    """A flag that may be given again and again; a tuple."""
    return click.option(*names, multiple=True, help=help, metavar=metavar)


def normalise(arguments: Sequence[str], options: Iterable[click.Parameter], *, interspersed: bool) -> list[str]:
    """`arguments` with every boolean value and `-x=value` rewritten; flags after the first word stay
    untouched unless `interspersed`. BadFlag for a boolean that is none.
    """
    known = {name: option for option in options if isinstance(option, click.Option) for name in option.opts}
    result: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--" or (not interspersed and not is_flag(argument)):
            return [*result, argument, *rest]
        if not is_flag(argument):
            result.append(argument)
            continue
        rewrite = _long if argument.startswith("--") else _short
        words, wants_value = rewrite(argument, known)
        # A flag that lacks its value is named in the error as it was written.
        result += words if rest or not wants_value else [argument]
        if wants_value and rest:
            result.append(rest.pop(0))
    return result


def is_flag(argument: str) -> bool:
    """Whether a word has the form of a flag; "-" alone stands for stdin or stdout."""
    return argument.startswith("-") and argument != "-"


def _long(argument: str, known: dict[str, click.Option]) -> tuple[list[str], bool]:
    name, equals, value = argument.partition("=")
    option = known.get(name)
    if option is None:
        return [argument], False
    if not option.is_flag:
        return [argument], not equals
    return (_switch(option, name, value) if equals else [argument]), False


def _short(argument: str, known: dict[str, click.Option]) -> tuple[list[str], bool]:
    """-it, -p80:80, -e=A=1 by their long names: click looks those up at once, and others only in a roundabout way."""
    words: list[str] = []
    for index, letter in enumerate(argument[1:], start=1):
        option = known.get(f"-{letter}")
        if option is None:
            return [argument], False
        long = next((name for name in option.opts if name.startswith("--")), f"-{letter}")
        rest = argument[index + 1 :]
        if option.is_flag and rest.startswith("="):
            return [*words, *_switch(option, f"-{letter}", rest[1:])], False
        words.append(long)
        if not option.is_flag:
            if not rest:
                return words, True
            between = "=" if long.startswith("--") else ""
            return [*words[:-1], f"{long}{between}{rest.removeprefix('=')}"], False
    return words, False


def _switch(option: click.Option, name: str, value: str) -> list[str]:
    if value in _TRUE:
        return [option.opts[-1] if option.opts[-1].startswith("--") else name]
    if value in _FALSE:
        return option.secondary_opts[:1]
    raise BadFlag(name, value, "it is neither true nor false", f"{name}=false")
