"""The words of an instruction: quoted, with variables, as NAME=VALUE, as flags. Dockerfile reference, "Environment"."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hooper.api.errors import InvalidArgument
from hooper.api.model import Healthcheck

_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""")
_VARIABLE = r"\$(?:\{(?P<name>\w+)(?::(?P<sign>[-+])(?P<other>[^}]*))?\}|(?P<bare>\w+))"
_PART = re.compile(rf"""'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|{_VARIABLE}|(?P<text>.)""")
_IN_DOUBLE = re.compile(rf"\\(?P<escaped>[\\\"$])|{_VARIABLE}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATIONS = ("interval", "timeout", "start_period", "start_interval")


def _raw(text: str) -> list[str]:
    """The words with their quotes. InvalidArgument if a quote is open at the end."""
    if _WORD.sub("", text).strip():
        raise InvalidArgument(f"cannot read {text}", "a quote is not closed", "Close it, or write \\ before it.")
    return _WORD.findall(text)


def split(text: str, env: Mapping[str, str]) -> list[str]:
    """The words, without quotes, with the values of variables."""
    return [_plain(word, env) for word in _raw(text)]


def one(text: str, env: Mapping[str, str]) -> str:
    """Text that is one word, whatever blanks it has."""
    return _plain(text, env)


def pairs(text: str, env: Mapping[str, str]) -> dict[str, str]:
    """ "a=1 b='2 3'", or the old form "a 1". InvalidArgument for anything else."""
    found = _raw(text)
    if "=" not in found[0]:
        rest = text.removeprefix(found[0]).strip()
        if not rest:
            raise InvalidArgument(f'cannot read "{text}"', "a name has no value", 'For example A=1 B="2 3".')
        return {_plain(found[0], env): _plain(rest, env)}
    result = {}
    for word in found:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidArgument(f'cannot read "{word}"', "it is not NAME=VALUE", 'For example A=1 B="2 3".')
        result[_plain(name, env)] = _plain(value, env)
    return result


def _plain(word: str, env: Mapping[str, str]) -> str:
    def part(match: re.Match[str]) -> str:
        groups = match.groupdict()
        if groups["single"] is not None:
            return groups["single"]
        if groups["double"] is not None:
            return _IN_DOUBLE.sub(lambda inner: inner["escaped"] or _value(inner, env), groups["double"])
        return groups["escaped"] or groups["text"] or _value(match, env)

    return _PART.sub(part, word)


def _value(match: re.Match[str], env: Mapping[str, str]) -> str:
    """Of $name, ${name}, ${name:-if empty} or ${name:+if not empty}."""
    value = env.get(match["name"] or match["bare"], "")
    if match["sign"] == "-":
        return value or match["other"]
    if match["sign"] == "+":
        return match["other"] if value else ""
    return value


def flags(text: str) -> tuple[dict[str, str], str, str]:
    """ "--interval=5s CMD true" as ({"interval": "5s"}, "CMD", "true")."""
    found = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            raise InvalidArgument(f"cannot read {flag}", "it has no value", f"Write {flag}=VALUE.")
        found[name.replace("-", "_")], text = value, text.strip()
    kind, _, rest = text.partition(" ")
    return found, kind, rest.strip()


def healthcheck(test: list[str], given: Mapping[str, str]) -> Healthcheck:
    check = Healthcheck(test=test)
    for name, value in given.items():
        if name in _DURATIONS:
            setattr(check, name, _duration(name, value))
        elif name == "retries" and value.isdigit():
            check.retries = int(value)
        else:
            raise InvalidArgument(
                f"HEALTHCHECK cannot have --{name.replace('_', '-')}={value}",
                remedy="There are --interval, --timeout, --start-period, --start-interval and --retries=NUMBER.",
            )
    return check


def _duration(name: str, text: str) -> int:
    """ "1m30s" in nanoseconds; at least a millisecond."""
    if text != "0" and not re.fullmatch(f"(?:{_DURATION.pattern})+", text):
        raise InvalidArgument(f'invalid duration "{text}" for --{name.replace("_", "-")}', remedy='Write "1m30s".')
    total = round(sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text)))
    if 0 < total < 10**6:
        raise InvalidArgument(f"--{name.replace('_', '-')}={text} cannot be less than 1ms")
    return total
