"""All targets by name. Each is given any bytes, and raises for a fault only."""

from __future__ import annotations

from collections.abc import Mapping

from fuzz import archives, images, layouts, recipes, requests
from fuzz.checks import Target

TARGETS: Mapping[str, Target] = {
    "answer": layouts.ANSWER,
    "challenge": images.CHALLENGE,
    "config": images.CONFIG,
    "dockerfile": recipes.DOCKERFILE,
    "ignore": recipes.IGNORE,
    "layout": layouts.LAYOUT,
    "manifest": images.MANIFEST,
    "platform": images.PLATFORM,
    "reference": images.REFERENCE,
    "request": requests.TARGET,
    "served-manifest": images.SERVED_MANIFEST,
    "tar": archives.TARGET,
}
