"""Offers the policy "rules"."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_image_policies() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "rules",
        "allows and denies by registry, name and digest; verifies cosign's signatures",
        factory="hooper_policy_rules.policy:RulesPolicy",
        config="hooper_policy_rules.config:RulesConfig",
        capabilities=frozenset({"verify"}),
    )
