"""Docker's filters of images."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fnmatch import translate

from hooper.api.engine import Filters
from hooper.api.errors import InvalidArgument
from hooper.api.model import ImageSummary
from hooper.api.reference import Reference
from hooper.engine import filters

KNOWN = ("before", "dangling", "label", "label!", "reference", "since", "until")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def select(images: Sequence[ImageSummary], wanted: Filters, get: Callable[[str], ImageSummary]) -> list[ImageSummary]:
    """The images that pass. `reference` narrows the tags shown, too. `get` finds the images of before and since."""
    filters.check(wanted, KNOWN)
    before = [get(name).created for name in wanted.get("before", ())]
    since = [get(name).created for name in wanted.get("since", ())]
    until = [moment(text) for text in wanted.get("until", ())]
    kept = []
    for image in images:
        if (before and image.created >= min(before)) or (since and image.created <= max(since)):
            continue
        if (until and image.created > min(until)) or not _labels_pass(image, wanted):
            continue
        if "dangling" in wanted and filters.is_true(wanted["dangling"]) == bool(image.tags):
            continue
        if "reference" in wanted and not _narrow(image, wanted["reference"]):
            continue
        kept.append(image)
    return kept


def _labels_pass(image: ImageSummary, wanted: Filters) -> bool:
    refused = [label for label in wanted.get("label!", ()) if filters.labels_match(image.labels, [label])]
    return filters.labels_match(image.labels, wanted.get("label", ())) and not refused


def _narrow(image: ImageSummary, patterns: Sequence[str]) -> bool:
    image.tags = [text for text in image.tags if _matches(text, patterns)]
    image.digests = [text for text in image.digests if _matches(text, patterns)]
    return bool(image.tags or image.digests)


def _matches(text: str, patterns: Sequence[str]) -> bool:
    reference = Reference.parse(text)
    names = (text, reference.familiar_name)
    return any(re.match(_glob(pattern), name) for pattern in patterns for name in names)


def _glob(pattern: str) -> str:
    """As Go's path.Match: a star stays within its part of the path."""
    return translate(pattern).replace(".*", "[^/]*").replace("(?>[^/]*?", "(?>[^/]*?")


def moment(text: str) -> float:
    """Seconds since the epoch of a date (RFC 3339), a unix time, or a duration ago ("24h", "1h30m")."""
    if text.replace(".", "", 1).isdigit():
        return float(text)
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time() - sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(f'"{text}" is not a time', str(error), "Write 24h, 2026-01-31 or a unix time.") from error
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
