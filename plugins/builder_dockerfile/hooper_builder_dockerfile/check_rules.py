"""The rules that a Dockerfile is checked by, and which of them apply. (Dockerfile reference: check; Build checks.)"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hooper.api.builder import BuildWarning
from hooper_builder_dockerfile.blanks import BLANKS
from hooper_builder_dockerfile.faults import Fault, Location
from hooper_builder_dockerfile.instructions import Instruction

RULES = (
    "StageNameCasing", "FromAsCasing", "NoEmptyContinuation", "ConsistentInstructionCasing", "DuplicateStageName",
    "ReservedStageName", "JSONArgsRecommended", "MaintainerDeprecated", "UndefinedArgInFrom", "UndefinedVar",
    "WorkdirRelativePath", "MultipleInstructionsDisallowed", "LegacyKeyValueFormat", "RedundantTargetPlatform",
    "SecretsUsedInArgOrEnv", "InvalidDefaultArgInFrom", "InvalidBaseImagePlatform", "FromPlatformFlagConstDisallowed",
    "CopyIgnoredFile", "InvalidDefinitionDescription", "ExposeProtoCasing", "ExposeInvalidFormat",
)  # fmt: skip
EXPERIMENTAL = ("InvalidDefinitionDescription",)
"""Those that only apply if they are asked for."""

_WITHOUT_PAGE = ("InvalidBaseImagePlatform",)
_PAGES = "https://docs.docker.com/go/dockerfile/rule/"
_SIMILAR = 3
"""Letters to change, add or leave out at which two names are no longer similar."""
_LONGEST = 100
"""Letters of a name that is looked for: a longer one is like none."""


@dataclass(frozen=True)
class CheckOptions:
    """Which rules apply, as "# check=" says it: "skip=A,B;experimental=all;error=true"."""

    skip: frozenset[str] = frozenset()
    """Names of rules, or "all"."""
    experimental: frozenset[str] = frozenset()
    error: bool = False
    """A warning makes the build fail."""

    @classmethod
    def of(cls, text: str) -> CheckOptions:
        """Fault for what is no option."""
        options = cls()
        for part in text.split(";") if text.strip(BLANKS) else ():
            name, equals, value = (word.strip(BLANKS) for word in part.partition("="))
            names = frozenset(word.strip(BLANKS) for word in value.split(","))
            if equals and name == "skip":
                options = cls(names, options.experimental, options.error)
            elif equals and name == "experimental":
                options = cls(options.skip, names, options.error)
            elif equals and name == "error":
                options = cls(options.skip, options.experimental, _boolean(value, part))
            else:
                raise Fault(
                    f'invalid check option "{part}"', "Write skip=RULE,…; experimental=RULE,…; error=true.", part
                )
        return options

    def with_comments(self, comments: Iterable[str]) -> CheckOptions:
        """With what comments directly above an instruction leave out or add: "# check=skip=RULE"."""
        for comment in comments:
            found = re.match(r"check\s*=\s*(\S+)", comment, re.IGNORECASE)
            if found:
                try:
                    more = CheckOptions.of(found[1])
                except Fault:
                    return self
                return CheckOptions(self.skip | more.skip, self.experimental | more.experimental, self.error)
        return self

    def has(self, rule: str) -> bool:
        if rule in EXPERIMENTAL:
            return rule in self.experimental or "all" in self.experimental
        return rule not in self.skip and "all" not in self.skip


def _boolean(value: str, part: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise Fault(f'failed to parse check option "{part}"', "Write error=true or error=false.", part)
    return value.lower() in ("true", "1", "t")


@dataclass
class Reporter:
    """Collects warnings of the rules that apply."""

    options: CheckOptions
    warnings: list[BuildWarning] = field(default_factory=list)

    def warn(self, rule: str, step: Instruction, message: str, location: Location | None = None) -> None:
        """`location` is the place if it is not the instruction's own."""
        if self.options.with_comments(step.writing.comments).has(rule):
            origin = (location or step.location).origin()
            self.warnings.append(BuildWarning(rule=rule, message=message, url=page_of(rule), origin=origin))

    def sorted(self) -> list[BuildWarning]:
        return sorted(self.warnings, key=lambda warning: warning.origin.first if warning.origin else 0)


def page_of(rule: str) -> str:
    """Where the rule is explained, "" if it is nowhere."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", rule)
    return "" if rule in _WITHOUT_PAGE else f"{_PAGES}{words.lower()}/"


def similar(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, "" if none is."""
    best, least = "", _SIMILAR
    for other in known if len(name) <= _LONGEST else ():
        distance = _distance(name, other, least)
        if other != name and distance < least:
            best, least = other, distance
    return best


def _distance(one: str, other: str, limit: int) -> int:
    """Letters to change, add or leave out to make one of the other; `limit` if it is that or more."""
    if abs(len(one) - len(other)) >= limit:
        return limit
    row: Sequence[int] = range(len(other) + 1)
    for number, letter in enumerate(one, 1):
        following = [number]
        for index, against in enumerate(other, 1):
            following.append(min(row[index] + 1, following[-1] + 1, row[index - 1] + (letter != against)))
        if min(following) >= limit:
            return limit
        row = following
    return row[-1]
