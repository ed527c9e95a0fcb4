"""The policy "rules": decides by the first rule that matches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hooper.api.driver import DriverContext
from hooper.api.errors import Forbidden, HooperError, InvalidArgument
from hooper.api.policy import Finding, ImagePolicy, ImageSubject, Origin, PolicyServices, Purpose
from hooper_policy_rules import rules
from hooper_policy_rules.config import Rule, RulesConfig, check, title

if TYPE_CHECKING:
    from hooper_policy_rules.keys import Key

_VERIFIED = "verified/"
"""In the driver's state: _VERIFIED KEYS/DIGEST/NAME for each image that was found to be signed, so that it can be used
while its registry cannot be asked."""


class RulesPolicy(ImagePolicy):
    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._config: RulesConfig = context.config
        self._keys: dict[int, list[Key]] = {}
        self._trust: dict[int, str] = {}
        """By number of a rule: what its verification depends on."""

    async def open(self) -> None:
        """Reads the keys. InvalidArgument names the rule and the file that is wrong."""
        check(self._config)
        for number, rule in enumerate(self._config.rules):
            if rule.action == "signed":
                self._keys[number] = _read_keys(rule, title(rule, number))
                parts = [*sorted(key.fingerprint for key in self._keys[number]), "", *sorted(rule.identities)]
                self._trust[number] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self._forget_others()

    def _forget_others(self) -> None:
        """What was verified by keys that are no longer trusted counts no more."""
        state, trusted = self.context.state, tuple(f"{_VERIFIED}{trust}/" for trust in self._trust.values())
        for key, _ in state.items(_VERIFIED):
            if not key.startswith(trusted):
                state.delete(key)

    async def decide(self, subject: ImageSubject) -> None:
        """See ImagePolicy. An image that several places have is let through if one of them would give it."""
        if subject.purpose is not Purpose.PUSH and not subject.origins:
            self._decide_local(subject)
            return
        refusals: list[Forbidden] = []
        for place in rules.judged(subject):
            try:
                await self._decide_place(subject, place)
            except Forbidden as error:
                refusals.append(error)
            else:
                return
        raise refusals[0]

    def _decide_local(self, subject: ImageSubject) -> None:
        found = rules.denied_by_digest(self._config.rules, subject.purpose, subject.image_id)
        if found is not None:
            number, rule = found
            raise _denied(rule, number)
        if self._config.local == "deny":
            if subject.purpose in (Purpose.LOAD, Purpose.IMPORT):
                raise Forbidden("no image is taken from an archive here (policy.rules.local)", "", "Pull it instead.")
            raise Forbidden(
                "no registry is known to have it (policy.rules.local)", "it was made or loaded here", "Pull it instead."
            )

    async def _decide_place(self, subject: ImageSubject, place: Origin) -> None:
        known = rules.digests(subject, place)
        found = rules.find(self._config.rules, subject.purpose, place, known)
        if found is None:
            if self._config.default == "deny" and subject.purpose is not Purpose.PUSH:
                raise Forbidden(f"no rule allows {place.name}", "", "Ask whoever keeps [policy.rules] for one.")
            return
        number, rule = found
        if rule.action == "deny":
            raise _denied(rule, number)
        if rule.pins and not known & set(rule.pins):
            raise Forbidden(
                f"{title(rule, number)} pins other digests",
                f"{place.name} has {place.digest or subject.image_id}",
                rule.reason or f"Use {place.name}@{rule.pins[0]}.",
            )
        if rule.action == "signed":
            await self._signed(subject, place, rule, number)

    async def _signed(self, subject: ImageSubject, place: Origin, rule: Rule, number: int) -> None:
        from hooper_policy_rules.signatures import Verifier, unreachable

        prefix, state = f"{_VERIFIED}{self._trust[number]}/", self.context.state
        if any(state.get(f"{prefix}{digest}/{place.name}") is not None for digest in place.digests):
            return
        bad: list[Finding] = []
        try:
            async for finding in Verifier(self._keys[number], rule.identities).findings(place, subject.services):
                if finding.good:
                    # Not of the whole index if it signs one manifest in it: others there may be bad.
                    state.put(f"{prefix}{finding.digest}/{place.name}", finding.key.encode())
                    return
                bad.append(finding)
        except HooperError as error:
            raise Forbidden(
                f"{title(rule, number)} asks for a signature",
                f"the registry could not be asked for it: {unreachable(error)}",
                error.remedy or "Pull the image when its registry can be reached.",
            ) from error
        raise Forbidden(
            f"{title(rule, number)} asks for a signature",
            "; ".join(f"{one.signature}: {one.reason}" for one in bad)
            or f"there is none of {place.name}@{place.digest}",
            rule.reason or f"Sign it: cosign sign --key KEY {place.name}@{place.digest}",
        )

    async def examine(
        self, origin: Origin, keys: Sequence[bytes], identities: Sequence[str], services: PolicyServices
    ) -> Sequence[Finding]:
        """See ImagePolicy."""
        from hooper_policy_rules.keys import Key
        from hooper_policy_rules.signatures import Verifier

        trusted = [Key(pem, f"number {number}") for number, pem in enumerate(keys, 1)]
        return [finding async for finding in Verifier(trusted, identities).findings(origin, services)]


def _denied(rule: Rule, number: int) -> Forbidden:
    return Forbidden(f"{title(rule, number)} denies it", rule.reason, "" if rule.reason else "Use another image.")


def _read_keys(rule: Rule, shown: str) -> list[Key]:
    from hooper_policy_rules.keys import Key

    found = []
    for path in rule.keys:
        try:
            pem = Path(path).read_bytes()
        except OSError as error:
            raise InvalidArgument(
                f"configuration [policy.rules], {shown}", f"{path}: {error.strerror}", "Give the file of a public key."
            ) from error
        found.append(Key(pem, path))
    return found
