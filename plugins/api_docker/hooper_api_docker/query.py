"""Parameters of a request's URL, in Docker's forms."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.manifests import NO_JSON

T = TypeVar("T")
_FALSE = ("", "0", "no", "false", "none")
_filters = msgspec.json.Decoder(dict[str, dict[str, Any] | list[str] | None])


class Query:
    """Parsed when first asked."""

    __slots__ = ("_raw", "_values")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._values: dict[str, list[str]] | None = None

    def all(self, name: str) -> list[str]:
        """Every value of a repeated parameter."""
        if not self._raw:
            return []
        if self._values is None:
            self._values = {}
            for key, value in parse_qsl(self._raw.decode("utf-8", "replace"), keep_blank_values=True):
                self._values.setdefault(key, []).append(value)
        return self._values.get(name, [])

    def text(self, name: str, default: str = "") -> str:
        values = self.all(name)
        return values[0] if values else default

    def flag(self, name: str, default: bool = False) -> bool:
        """As dockerd reads booleans: all is true but "", 0, no, false and none."""
        values = self.all(name)
        return values[0].strip().lower() not in _FALSE if values else default

    def integer(self, name: str, default: int | None = None) -> int | None:
        """InvalidArgument if it is there and no number."""
        text = self.text(name)
        if not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise InvalidArgument(f"invalid parameter {name}={text}", "it is not a number") from None

    def count(self, name: str) -> int:
        """A number that is 0 if it is missing."""
        return self.integer(name, 0) or 0

    def json(self, name: str, kind: type[T]) -> T | None:
        """A parameter that is JSON; None if it is missing or null."""
        text = self.text(name)
        if not text:
            return None
        try:
            return msgspec.json.decode(text, type=kind | None)
        except NO_JSON as error:
            raise InvalidArgument(f"invalid parameter {name}", str(error)) from None

    def filters(self) -> dict[str, list[str]]:
        """Both {"k": {"v": true}} and {"k": ["v"]}, as {"k": ["v"]}."""
        text = self.text("filters")
        if not text:
            return {}
        try:
            parsed = _filters.decode(text.encode())
        except NO_JSON as error:
            raise InvalidArgument(
                "invalid filter", str(error), 'Filters are JSON, such as {"label": {"a=b": true}}.'
            ) from None
        return {
            key: [v for v, wanted in values.items() if wanted] if isinstance(values, dict) else values or []
            for key, values in parsed.items()
        }

    def time_ns(self, name: str) -> int:
        """A Unix time with fraction, or RFC 3339; 0 if it is missing."""
        text = self.text(name)
        if not text:
            return 0
        seconds, _, fraction = text.partition(".")
        try:
            if seconds.lstrip("-").isdigit() and (fraction.isdigit() or not fraction):
                return max(0, int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0")))
            from hooper_api_docker.times import parse_ns

            return parse_ns(text)
        except ValueError:
            raise InvalidArgument(
                f"invalid parameter {name}={text}", "it is not a time", "Give seconds since 1970, or RFC 3339."
            ) from None
