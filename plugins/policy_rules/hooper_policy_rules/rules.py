"""Which rule is about an image. Nothing here asks anybody."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from hooper.api.policy import ImageSubject, Origin, Purpose
from hooper.api.reference import DEFAULT_HOST
from hooper_policy_rules.config import Match, Rule


def judged(subject: ImageSubject) -> tuple[Origin, ...]:
    """The places by which an image is judged: the one that the user named, if it is known to have the image; else all.

    At a push it is the destination.
    """
    if subject.purpose is Purpose.PUSH and subject.reference is not None:
        target = subject.reference
        return (Origin(target.host, target.path, "", "", (target.tag,) if target.tag else ()),)
    if subject.reference is None:
        return subject.origins
    name, digest = subject.reference.name, subject.reference.digest
    named = tuple(o for o in subject.origins if o.name == name and (not digest or digest in o.digests))
    return named or subject.origins


def digests(subject: ImageSubject, place: Origin) -> frozenset[str]:
    """All that the image is known by: at a push by what it is known by anywhere."""
    places = subject.origins if subject.purpose is Purpose.PUSH else (place,)
    return frozenset(d for d in (subject.image_id, *(d for each in places for d in each.digests)) if d)


def find(rules: Sequence[Rule], purpose: Purpose, place: Origin, known: Collection[str]) -> tuple[int, Rule] | None:
    """The first rule about that purpose that matches, and its number, from 0 on."""
    for number, rule in enumerate(rules):
        if purpose in rule.purposes and matches(rule.match, place, known):
            return number, rule
    return None


def matches(match: Match, place: Origin, known: Collection[str]) -> bool:
    """Whether an image of those digests at that place is meant."""
    return (
        fnmatchcase(place.host, match.registry)
        and any(fnmatchcase(name, match.repository) for name in _names(place))
        and (match.tag == "*" or any(fnmatchcase(tag, match.tag) for tag in place.tags))
        and (not match.digests or bool(set(match.digests) & set(known)))
    )


def denied_by_digest(rules: Sequence[Rule], purpose: Purpose, image_id: str) -> tuple[int, Rule] | None:
    """The first rule that denies an image by its id, for one that is known at no place."""
    for number, rule in enumerate(rules):
        if rule.action == "deny" and purpose in rule.purposes and image_id in rule.match.digests:
            return number, rule
    return None


def _names(place: Origin) -> Sequence[str]:
    short = place.repository.removeprefix("library/")
    if place.host == DEFAULT_HOST and short != place.repository and "/" not in short:
        return place.repository, short
    return (place.repository,)
