"""The functions of --format templates, and how Go prints values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hooper.client.http import quote
from hooper.gotemplate.values import Nil, Struct


def show(value: Any) -> str:
    """A value as Go's fmt prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, Nil):
        return value.text
    if isinstance(value, Struct):
        return "{" + " ".join(show(item) for item in value.values()) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(show(item) for item in value) + "]"
    return str(value)


def truthy(value: Any) -> bool:
    """Go's idea of an empty value: false, 0, nil and whatever has no elements."""
    return bool(value)


def to_json(value: Any) -> str:
    """Compact JSON, escaped as Go escapes it; methods are left out."""
    text = json.dumps(_without_methods(value), ensure_ascii=False, separators=(",", ":"), default=_null)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _without_methods(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_methods(item) for key, item in value.items() if not callable(item)}
    return [_without_methods(item) for item in value] if isinstance(value, list) else value


def _null(value: Any) -> None:
    """What json cannot write of itself: Nil alone."""
    if not isinstance(value, Nil):
        raise TypeError(f"{type(value).__name__} is no JSON")


def index(value: Any, *keys: Any) -> Any:
    """The element of nested maps and lists; nothing ("") for a key that a map does not have."""
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(value, list | str) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise ValueError(f"{show(key)} is no index of {show(value)}")
    return value


_TYPES = {str: "string", int: "int", float: "float64", bool: "bool", list: "[]interface {}"}


def _format(template: str, *arguments: Any) -> str:
    rest = iter(arguments)

    def fill(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        value = next(rest, "%!(MISSING)")
        if verb == "q":
            return json.dumps(show(value), ensure_ascii=False)
        if verb == "T":
            return _TYPES.get(type(value), "map[string]interface {}")
        return f"%{flags}{verb}" % value if verb in "dfxXoe" else f"%{flags}s" % show(value)

    return re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([a-zA-Z%])", fill, template)


def _equal(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


def _all(*values: Any) -> Any:
    return next((value for value in values if not truthy(value)), values[-1])


def _any(*values: Any) -> Any:
    return next((value for value in values if truthy(value)), values[-1])


def _slice(value: Sequence[Any], *bounds: int) -> Sequence[Any]:
    return value[slice(*bounds)] if len(bounds) > 1 else value[bounds[0] :]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _html(*values: Any) -> str:
    from html import escape

    return escape("".join(show(value) for value in values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": to_json,
    "join": lambda items, separator: separator.join(show(item) for item in items or []),
    "lower": lambda text: show(text).lower(),
    "upper": lambda text: show(text).upper(),
    "title": lambda text: show(text).title(),
    "split": lambda text, separator: text.split(separator),
    "truncate": lambda text, length: text[:length],
    "pad": _pad,
    "print": lambda *values: "".join(show(value) for value in values),
    "println": lambda *values: " ".join(show(value) for value in values) + "\n",
    "printf": _format,
    "index": index,
    "len": len,
    "slice": _slice,
    "urlquery": lambda *values: quote("".join(show(value) for value in values)).replace("%20", "+"),
    "html": _html,
    "js": lambda *values: json.dumps("".join(show(value) for value in values))[1:-1].replace("'", "\\'"),
    "eq": _equal,
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: first < second,
    "le": lambda first, second: first <= second,
    "gt": lambda first, second: first > second,
    "ge": lambda first, second: first >= second,
    "and": _all,
    "or": _any,
    "not": lambda value: not truthy(value),
}
