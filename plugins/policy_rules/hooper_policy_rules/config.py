"""The settings in `[policy.rules]`, and whether they make sense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.policy import Purpose
from hooper.api.reference import is_digest

Use = Literal["pull", "run", "build", "push"]
USES: tuple[Use, ...] = ("pull", "run", "build")
"""What a rule is about if it does not say."""


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which images a rule is about: those that all of it fits. Patterns are fnmatch's; * stands for / too."""

    registry: str = "*"
    """Of the host: "docker.io", "*.example.com", "registry.example:5000"."""
    repository: str = "*"
    """Of the name on it: "team/*". On docker.io "busybox" is "library/busybox" too."""
    tag: str = "*"
    digests: tuple[str, ...] = ()
    """Of its manifest, of the index that it is in, or of its configuration (the image's id). None: any."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to happen with images that match. The first rule that matches decides."""

    action: Literal["allow", "deny", "signed"]
    name: str = ""
    """Shown in errors; "" is its number."""
    match: Match = Match()
    purposes: tuple[Use, ...] = USES
    pins: tuple[str, ...] = ()
    """The only digests that are let through, of the same kinds as in `Match.digests`. None: all."""
    keys: tuple[str, ...] = ()
    """Files of public keys in PEM; a signature by one of them is enough."""
    identities: tuple[str, ...] = ()
    """Patterns of the repositories that a signature may be for; none: the image's own."""
    reason: str = ""
    """Told to those who are denied."""


class RulesConfig(msgspec.Struct, frozen=True):
    rules: tuple[Rule, ...] = ()
    default: Literal["allow", "deny"] = "deny"
    """For images that come from a registry and match no rule."""
    local: Literal["allow", "deny"] = "allow"
    """For images that were built, committed, loaded or imported here, and for loading and importing."""


def title(rule: Rule, number: int) -> str:
    """How a rule is called in errors; the first has number 0."""
    return f'rule "{rule.name}"' if rule.name else f"rule {number + 1}"


def check(config: RulesConfig) -> None:
    """InvalidArgument names the rule that makes no sense."""
    for number, rule in enumerate(config.rules):
        for why, remedy in _faults(rule):
            raise InvalidArgument(f"configuration [policy.rules], {title(rule, number)}", why, remedy)


def _faults(rule: Rule) -> Iterator[tuple[str, str]]:
    if rule.action == "signed" and not rule.keys:
        yield "signed by whom?", "Give the files of public keys: keys = [...]."
    if rule.action != "signed" and (rule.keys or rule.identities):
        yield "it has keys or identities, but asks for no signature", 'Say action = "signed", or remove them.'
    if rule.action == "signed" and Purpose.PUSH in rule.purposes:
        yield "what is pushed has no signature yet", "Take push out of its purposes."
    if rule.action == "deny" and rule.pins:
        yield "it denies, so its pins mean nothing", 'Say action = "allow", or use match.digests.'
    for digest in (*rule.match.digests, *rule.pins):
        if not is_digest(digest):
            yield f'"{digest}" is not a digest', "A digest is sha256: and 64 hex digits."
