"""Docker's filters, where several kinds of objects share one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hooper.api.errors import InvalidArgument


def check(filters: Mapping[str, Sequence[str]], known: Iterable[str]) -> None:
    """InvalidArgument for a filter that the object does not have."""
    for name in filters:
        if name not in (allowed := sorted(known)):
            raise InvalidArgument(f"invalid filter '{name}'", remedy=f"There are: {', '.join(allowed)}.")


def labels_match(labels: Mapping[str, str] | None, wanted: Sequence[str]) -> bool:
    """All of `wanted`, each "key" or "key=value", are among the labels."""
    labels = labels or {}
    for item in wanted:
        key, equals, value = item.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def is_true(values: Sequence[str]) -> bool:
    """The value of a yes-or-no filter."""
    return bool(values) and values[0].lower() in ("1", "true", "t")
