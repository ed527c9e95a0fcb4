"""The policy "rules": which rule is about an image, and what follows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import msgspec
import pytest
from test_policy_signatures import DIGEST, KEY, Store

from cosign_support import new_key, payload, pem
from hooper.api.driver import DriverContext
from hooper.api.errors import Forbidden, InvalidArgument, NotFound
from hooper.api.policy import ImageSubject, Origin, Purpose
from hooper.api.reference import Reference
from hooper_policy_rules.config import RulesConfig
from hooper_policy_rules.policy import RulesPolicy

ID = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
APP = Origin("registry.example", "team/app", DIGEST, DIGEST, ("1",))
BUSYBOX = Origin("docker.io", "library/busybox", OTHER, "", ("latest",))


class State(dict[str, bytes]):
    def put(self, key: str, value: bytes) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        del self[key]

    def items(self, prefix: str = "") -> list[tuple[str, bytes]]:  # type: ignore[override]
        return [(key, value) for key, value in super().items() if key.startswith(prefix)]


def opened(state: State | None = None, **settings: Any) -> RulesPolicy:
    config = msgspec.convert(settings, RulesConfig)
    policy = RulesPolicy(cast(DriverContext, SimpleNamespace(config=config, state=State() if state is None else state)))
    anyio.run(policy.open)
    return policy


def subject(
    *origins: Origin, purpose: str = "pull", given: str = "", image_id: str = ID, store: Store | None = None
) -> ImageSubject:
    reference = Reference.parse(given).with_default_tag() if given else None
    return ImageSubject(Purpose(purpose), given, reference, image_id, origins, store or Store())


def denied(policy: RulesPolicy, wanted: ImageSubject) -> Forbidden:
    with pytest.raises(Forbidden) as caught:
        anyio.run(policy.decide, wanted)
    return caught.value


def allows(policy: RulesPolicy, wanted: ImageSubject) -> bool:
    try:
        anyio.run(policy.decide, wanted)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    ("match", "origin", "fits"),
    [
        ({}, APP, True),
        ({"registry": "registry.example"}, APP, True),
        ({"registry": "*.example"}, APP, True),
        ({"registry": "docker.io"}, APP, False),
        ({"repository": "team/*"}, APP, True),
        ({"repository": "team"}, APP, False),
        ({"repository": "busybox"}, BUSYBOX, True),
        ({"repository": "library/busybox"}, BUSYBOX, True),
        ({"tag": "1"}, APP, True),
        ({"tag": "2*"}, APP, False),
        ({"tag": "*"}, Origin("registry.example", "team/app", DIGEST), True),
        ({"tag": "1"}, Origin("registry.example", "team/app", DIGEST), False),
        ({"digests": [DIGEST]}, APP, True),
        ({"digests": [ID]}, APP, True),
        ({"digests": [OTHER]}, APP, False),
        ({"registry": "registry.example", "tag": "2"}, APP, False),
    ],
)
def test_matching(match: dict[str, Any], origin: Origin, fits: bool) -> None:
    policy = opened(rules=[{"action": "deny", "name": "it", "match": match}], default="allow")
    if fits:
        assert denied(policy, subject(origin)).what == 'rule "it" denies it'
    else:
        assert allows(policy, subject(origin))


def test_the_first_rule_that_matches_decides() -> None:
    rules = [{"action": "allow", "match": {"repository": "team/app"}}, {"action": "deny", "reason": "Ask Ann."}]
    assert allows(opened(rules=rules), subject(APP))
    error = denied(opened(rules=rules), subject(BUSYBOX))
    assert (error.what, error.why) == ("rule 2 denies it", "Ask Ann.")
    assert not allows(opened(rules=rules[::-1]), subject(APP))


def test_without_a_rule_the_default_holds() -> None:
    assert "no rule allows registry.example/team/app" in denied(opened(), subject(APP)).what
    assert allows(opened(default="allow"), subject(APP))


def test_rules_are_for_purposes() -> None:
    policy = opened(rules=[{"action": "deny", "purposes": ["build"]}], default="allow")
    assert not allows(policy, subject(APP, purpose="build"))
    assert allows(policy, subject(APP, purpose="run"))


def test_pins() -> None:
    policy = opened(rules=[{"action": "allow", "pins": [DIGEST]}])
    assert allows(policy, subject(APP))
    error = denied(policy, subject(BUSYBOX))
    assert error.what == "rule 1 pins other digests"
    assert OTHER in error.why


def test_images_of_this_host() -> None:
    for purpose in ("run", "build", "load", "import"):
        assert allows(opened(), subject(purpose=purpose))
        assert "policy.rules.local" in denied(opened(local="deny"), subject(purpose=purpose)).what
    assert not allows(opened(rules=[{"action": "deny", "match": {"digests": [ID]}}]), subject(purpose="run"))


def test_an_image_is_judged_by_the_place_that_the_user_named() -> None:
    policy = opened(rules=[{"action": "allow", "match": {"registry": "docker.io"}}])
    both = (APP, BUSYBOX)
    assert allows(policy, subject(*both, purpose="run", given="busybox"))
    assert not allows(policy, subject(*both, purpose="run", given="registry.example/team/app:1"))
    # By a name that no registry has it under, or by its id: one of all is enough.
    assert allows(policy, subject(*both, purpose="run", given="mine"))
    assert allows(policy, subject(*both, purpose="run"))
    assert not allows(policy, subject(APP, purpose="run", given="busybox"))


def test_a_digest_is_denied_wherever_it_comes_from() -> None:
    policy = opened(rules=[{"action": "deny", "match": {"digests": [ID]}}], default="allow")
    for given in ("", "busybox", "registry.example/team/app:1"):
        assert not allows(policy, subject(APP, BUSYBOX, purpose="run", given=given))


def test_pushing_is_judged_by_the_destination() -> None:
    rules = [{"action": "deny", "purposes": ["push"], "match": {"registry": "docker.io"}}]
    policy = opened(rules=rules)
    assert not allows(policy, subject(APP, purpose="push", given="busybox"))
    assert allows(policy, subject(APP, purpose="push", given="registry.example/team/app:1"))
    assert allows(policy, subject(purpose="push", given="registry.example/new"))


# --- signatures ---------------------------------------------------------------------------------------

GOOD = payload(DIGEST, "registry.example/team/app")


def signing(tmp_path: Path, *keys: Any, **more: Any) -> dict[str, Any]:
    paths = []
    for number, key in enumerate(keys):
        (tmp_path / f"{number}.pub").write_bytes(pem(key))
        paths.append(str(tmp_path / f"{number}.pub"))
    return {"rules": [{"action": "signed", "name": "team", "keys": paths, **more}]}


def test_signed(tmp_path: Path) -> None:
    policy = opened(**signing(tmp_path, KEY))
    assert allows(policy, subject(APP, store=Store().signed((KEY, GOOD))))
    error = denied(opened(**signing(tmp_path, new_key())), subject(APP, store=Store().signed((KEY, GOOD))))
    assert error.what == 'rule "team" asks for a signature'
    assert "made with another key" in error.why
    assert "there is none" in denied(opened(**signing(tmp_path, KEY)), subject(APP)).why


def test_what_was_verified_is_remembered_as_long_as_the_keys_are_trusted(tmp_path: Path) -> None:
    state = State()
    assert allows(opened(state, **signing(tmp_path, KEY)), subject(APP, store=Store().signed((KEY, GOOD))))
    assert len(state) == 1
    assert allows(opened(state, **signing(tmp_path, KEY)), subject(APP, purpose="run"))
    assert not allows(opened(state, **signing(tmp_path, new_key())), subject(APP, purpose="run"))
    assert not state


def test_a_signature_of_one_manifest_is_none_of_its_index(tmp_path: Path) -> None:
    state, index = State(), "sha256:" + "3" * 64
    signed = Origin("registry.example", "team/app", index, DIGEST)
    sibling = Origin("registry.example", "team/app", index, OTHER)
    policy = opened(state, **signing(tmp_path, KEY))
    assert allows(policy, subject(signed, store=Store().signed((KEY, GOOD))))
    assert not allows(policy, subject(sibling, store=Store().signed((KEY, GOOD))))


def test_pinned_and_signed(tmp_path: Path) -> None:
    store = Store().signed((KEY, GOOD))
    assert allows(opened(**signing(tmp_path, KEY, pins=[DIGEST])), subject(APP, store=store))
    assert "pins" in denied(opened(**signing(tmp_path, KEY, pins=[OTHER])), subject(APP, store=store)).what


def test_a_registry_that_cannot_be_asked(tmp_path: Path) -> None:
    class Failing(Store):
        async def referrers(self, origin: Origin, digest: str) -> Any:
            raise NotFound("registry.example", "it is gone")

    error = denied(opened(**signing(tmp_path, KEY)), subject(APP, store=Failing()))
    assert "could not be asked" in error.why


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"action": "signed"}, "signed by whom"),
        ({"action": "allow", "keys": ["/x"]}, "asks for no signature"),
        ({"action": "deny", "pins": [DIGEST]}, "pins mean nothing"),
        ({"action": "allow", "pins": ["latest"]}, "not a digest"),
        ({"action": "deny", "match": {"digests": ["sha256:12"]}}, "not a digest"),
        ({"action": "signed", "keys": ["/none.pub"]}, "/none.pub: No such file"),
        ({"action": "signed", "keys": ["/x"], "purposes": ["push"]}, "no signature yet"),
    ],
)
def test_rules_that_make_no_sense(rule: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        opened(rules=[{"action": "allow"}, {"name": "odd", **rule}])
    assert 'rule "odd"' in caught.value.what


def test_unknown_members_are_refused() -> None:
    for rule in ({"action": "maybe"}, {"action": "deny", "tag": "1"}, {"action": "deny", "match": {"host": "x"}}):
        with pytest.raises(msgspec.ValidationError):
            opened(rules=[rule])
