"""What somebody may have meant who named something that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hooper.api.errors import HooperError
from hooper.client.api import ApiClient

_MISSING = (
    (re.compile(r"^No such container: (\S+)"), "container"),
    (re.compile(r"No such image: (\S+)"), "image"),
    (re.compile(r"^network (\S+) not found"), "network"),
    (re.compile(r"^get (\S+): no such volume"), "volume"),
)
_LIKE, _WORSE = 0.65, 0.12
"""How like a word is to be, between 0 and 1, and how much less so than the best one."""


def nearest(client: ApiClient, message: str) -> str:
    """The names nearest to the one that the daemon's `message` says is missing; empty if there are none."""
    for pattern, kind in _MISSING:
        if match := pattern.search(message):
            return " or ".join(closest(client, kind, match[1].removesuffix(":latest")))
    return ""


def closest(client: ApiClient, kind: str, name: str) -> list[str]:
    """At most three existing names of a kind that are like `name`; none if the daemon cannot tell."""
    from hooper.cli.names import names

    try:
        existing = [known.removesuffix(":latest") for known in names(client.sibling(), kind)]
    except HooperError:
        return []
    return near(name, existing)


def near(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The words that are like `word`, the nearest first: a slip of the keys, another case, or only a part."""
    from difflib import SequenceMatcher

    known = list(dict.fromkeys(known))
    matcher = SequenceMatcher(b=word.lower())
    likeness = {}
    for one in known:
        matcher.set_seq1(one.lower())
        if matcher.real_quick_ratio() >= _LIKE and (ratio := matcher.ratio()) >= _LIKE:
            likeness[one] = ratio
    best = max(likeness.values(), default=0.0)
    found = sorted((one for one in likeness if likeness[one] > best - _WORSE), key=lambda one: -likeness[one])
    if not found and len(word) > 2:
        found = [one for one in known if word.lower() in one.lower()]
    return found[:most]
