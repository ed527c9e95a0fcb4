"""Image policies in a daemon, with a real registry, by docker's and hooper's clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import support
from cosign_support import Repository, dsse_bundle, new_key, payload, pem, statement
from hooper.api.manifests import host_architecture

pytestmark = pytest.mark.root

KEY, OTHER = new_key(), new_key()


@dataclass
class Place:
    """A registry with images that are signed and not, and a daemon with rules about them."""

    daemon: support.Hooper
    host: str
    key: Path
    digests: dict[str, str]

    def name(self, image: str) -> str:
        return f"{self.host}/{image}"

    def docker(self, *words: str, code: int = 0, input: bytes | None = None, **environment: str) -> str:
        """Output and errors of docker's client, which must end with that exit code."""
        return run(["docker", *words], self.daemon, code, input, environment)

    def hooper(self, *words: str, code: int = 0) -> str:
        return run([sys.executable, "-m", "hooper", *words], self.daemon, code)


def run(
    words: list[str],
    daemon: support.Hooper,
    code: int,
    input: bytes | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    found = subprocess.run(
        words,
        input=input,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        env={**os.environ, "DOCKER_HOST": daemon.address, "HOOPER_HOST": daemon.address, **(environment or {})},
    )
    text = found.stdout.decode()
    assert found.returncode == code, text
    return text


NAMES = (
    "team/signed:1", "team/bundled:1", "team/unsigned:1", "team/foreign:1", "evil/app:1", "open/app:1", "pinned/app:1",
    "pinned/app:2", "team/early:1", "open/early:1",
)  # fmt: skip


def fill(host: str, names: Sequence[str] = NAMES) -> dict[str, str]:
    """Pushes the images and their signatures; digests by name."""
    layer, digests = support.busybox_tar(), {}
    for name in names:
        repository, _, tag = name.partition(":")
        place = Repository(host, repository)
        digest, manifest = place.image(tag, layer)
        digests[name] = digest
        signed = payload(digest, f"{host}/{repository}")
        if repository in ("team/signed", "team/early"):
            place.signature(digest, (OTHER, signed), (KEY, signed))
        elif repository == "team/foreign":
            place.signature(digest, (OTHER, signed))
        elif repository == "team/bundled":
            place.bundle(digest, manifest, dsse_bundle(KEY, statement(digest)))
    return digests


def rules(host: str, key: Path, pin: str) -> str:
    return f"""
[policy]
enabled = ["rules"]
[policy.rules]
default = "deny"
[[policy.rules.rules]]
name = "no evil"
action = "deny"
match = {{ registry = "{host}", repository = "evil/*" }}
reason = "evil/ is closed."
[[policy.rules.rules]]
name = "team"
action = "signed"
match = {{ registry = "{host}", repository = "team/*" }}
keys = ["{key}"]
[[policy.rules.rules]]
action = "allow"
match = {{ registry = "{host}", repository = "pinned/*" }}
pins = ["{pin}"]
[[policy.rules.rules]]
action = "allow"
match = {{ registry = "{host}", repository = "open/*" }}
[[policy.rules.rules]]
name = "stays here"
action = "deny"
purposes = ["push"]
match = {{ repository = "secret/*" }}
"""


@pytest.fixture(scope="module")
def place(short_tmp: Path) -> Iterator[Place]:
    directory = short_tmp / "policy"
    directory.mkdir()
    key = directory / "cosign.pub"
    key.write_bytes(pem(KEY))
    with support.docker_registry(directory) as host:
        digests = fill(host)
        config = rules(host, key, digests["pinned/app:1"])
        with support.hooper(directory / "d", config) as daemon:
            yield Place(daemon, host, key, digests)


# --- pull and run -------------------------------------------------------------------------------------


def test_a_pull_is_denied_before_anything_is_stored(place: Place) -> None:
    name = place.name("evil/app:1")
    text = place.docker("pull", name, code=1)
    assert f'the policy "rules" denies that {name} is pulled: rule "no evil" denies it: evil/ is closed.' in text
    status, answer = place.daemon.request("POST", f"/images/create?fromImage={place.name('evil/app')}&tag=1")
    assert status == 403
    assert 'rule "no evil"' in str(answer)
    assert "evil" not in place.docker("images", "--all", "--digests")


def test_run_of_what_is_denied_ends_as_a_failed_create(place: Place) -> None:
    assert "asks for a signature" in place.docker("run", "--rm", place.name("team/unsigned:1"), "true", code=125)
    assert "asks for a signature" in place.hooper("run", "--rm", place.name("team/unsigned:1"), "true", code=125)


@pytest.mark.parametrize("image", ["team/signed:1", "team/bundled:1", "open/app:1", "pinned/app:1"])
def test_what_is_allowed_runs(place: Place, image: str) -> None:
    assert place.docker("run", "--rm", "--quiet", place.name(image), "echo", "fine").endswith("fine\n")
    assert place.hooper("run", "--rm", place.name(image), "echo", "well").endswith("well\n")


def test_bad_signatures_are_named(place: Place) -> None:
    text = place.docker("pull", place.name("team/foreign:1"), code=1)
    assert f"the tag {place.digests['team/foreign:1'].replace(':', '-')}.sig: it was made with another key" in text
    assert "there is none of" in place.docker("pull", place.name("team/unsigned:1"), code=1)


def test_a_pin_holds_for_every_tag(place: Place) -> None:
    assert "pins other digests" in place.docker("pull", place.name("pinned/app:2"), code=1)
    place.docker("pull", f"{place.name('pinned/app')}@{place.digests['pinned/app:1']}")


def test_a_registry_without_a_rule_is_denied(place: Place) -> None:
    Repository(place.host, "nobody/app").image("1", support.busybox_tar())
    assert f"no rule allows {place.name('nobody/app')}" in place.docker("pull", place.name("nobody/app:1"), code=1)


def test_a_name_of_ones_own(place: Place) -> None:
    """An image that came here as allowed is still what it is under a name that no rule is about."""
    place.docker("pull", "--quiet", place.name("open/app:1"))
    place.docker("tag", place.name("open/app:1"), "mine:1")
    assert place.docker("run", "--rm", "mine:1", "echo", "fine") == "fine\n"


@pytest.mark.parametrize("whole", [True, False])
def test_an_image_of_several_platforms(place: Place, whole: bool) -> None:
    """As cosign signs it: the index alone; or with --recursive, here only this host's manifest."""
    repository = Repository(place.host, f"team/multi-{'whole' if whole else 'part'}")
    layer, here = support.busybox_tar(), host_architecture()
    own = repository.image("own", layer)
    index = repository.index("1", **{here: own, "s390x": repository.image("other", layer, "s390x")})
    signed = index if whole else own[0]
    repository.signature(signed, (KEY, payload(signed, f"{place.host}/{repository.name}")))
    name = place.name(f"{repository.name}:1")
    assert place.docker("run", "--rm", "--quiet", name, "echo", "fine").endswith("fine\n")
    code = 0 if whole else 1
    text = place.docker("pull", "--platform", "linux/s390x", name, code=code)
    assert whole or "asks for a signature" in text


# --- builds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("FROM {}/team/signed:1\nRUN true", ""),
        ("FROM {}/evil/app:1", 'rule "no evil"'),
        ("FROM {0}/open/app:1\nCOPY --from={0}/team/unsigned:1 /bin/busybox /x", 'rule "team"'),
        ("FROM {0}/open/app:1\nCOPY --from={0}/team/bundled:1 /bin/busybox /x", ""),
    ],
)
def test_what_a_build_stands_on(place: Place, tmp_path: Path, lines: str, fault: str) -> None:
    (tmp_path / "Dockerfile").write_text(lines.format(place.host))
    code = 1 if fault else 0
    assert fault in place.docker("build", "-t", "built:1", str(tmp_path), code=code, DOCKER_BUILDKIT="0")
    assert fault in place.hooper("build", "-t", "built:2", str(tmp_path), code=code)
    if not fault:
        assert place.docker("run", "--rm", "built:1", "echo", "fine") == "fine\n"


# --- push ---------------------------------------------------------------------------------------------


def test_push_by_destination(place: Place) -> None:
    place.docker("pull", "--quiet", place.name("open/app:1"))
    for target in ("secret/app:1", "open/copy:1"):
        place.docker("tag", place.name("open/app:1"), place.name(target))
    assert 'rule "stays here"' in place.docker("push", place.name("secret/app:1"), code=1)
    place.docker("push", place.name("open/copy:1"))


def test_push_of_what_a_build_makes(place: Place, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {place.name('open/app:1')}\nLABEL a=b")
    text = place.hooper("build", "--push", "-t", place.name("secret/built:1"), str(tmp_path), code=1)
    assert 'rule "stays here"' in text
    place.hooper("build", "--push", "-t", place.name("open/built:1"), str(tmp_path))


# --- over time ----------------------------------------------------------------------------------------


def test_images_that_were_there_before_the_policy(place: Place, short_tmp: Path) -> None:
    directory = short_tmp / "early"
    with support.hooper(directory) as daemon:
        early = Place(daemon, place.host, place.key, place.digests)
        for image in ("evil/app:1", "team/early:1", "team/unsigned:1", "open/early:1"):
            early.docker("pull", "--quiet", place.name(image))
        evil = early.docker("images", "--quiet", "--no-trunc", place.name("evil/app:1")).strip()
        early.docker("tag", place.name("evil/app:1"), place.name("open/app:1"))
        daemon.stop()
        daemon.config = directory / "config.toml"
        daemon.config.write_text(rules(place.host, place.key, place.digests["pinned/app:1"]))
        daemon.start()
        for name in (place.name("evil/app:1"), evil, evil[7:19], place.name("open/app:1")):
            assert 'rule "no evil"' in early.docker("run", "--rm", "--pull=never", name, "true", code=125)
        assert 'rule "team"' in early.docker("create", "--pull=never", place.name("team/unsigned:1"), code=1)
        body = json.dumps(
            {
                "Image": place.name("open/early:1"),
                "HostConfig": {"Mounts": [{"Type": "image", "Source": place.name("evil/app:1"), "Target": "/x"}]},
            }
        ).encode()
        status, answer = daemon.request("POST", "/containers/create", body, {"Content-Type": "application/json"})
        assert (status, 'rule "no evil"' in str(answer)) == (403, True)
        for image in ("team/early:1", "open/early:1"):
            assert early.docker("run", "--rm", "--pull=never", place.name(image), "echo", "fine") == "fine\n"


def test_what_was_verified_is_used_without_its_registry(short_tmp: Path) -> None:
    directory = short_tmp / "offline"
    directory.mkdir()
    key = directory / "cosign.pub"
    key.write_bytes(pem(KEY))
    with ExitStack() as daemons:
        with support.docker_registry(directory) as host:
            digests = fill(host, ["team/signed:1"])
            config = rules(host, key, digests["team/signed:1"])
            daemon = daemons.enter_context(support.hooper(directory / "d", config))
            alone = Place(daemon, host, key, digests)
            alone.docker("pull", "--quiet", alone.name("team/signed:1"))
        daemon.stop()
        daemon.start()
        assert alone.docker("run", "--rm", alone.name("team/signed:1"), "echo", "fine") == "fine\n"


# --- images of this host, and policies that do not work -----------------------------------------------


def test_local_images_denied(short_tmp: Path, clean: support.Hooper) -> None:
    config = '[policy]\nenabled = ["rules"]\n[policy.rules]\nlocal = "deny"\n'
    with support.hooper(short_tmp / "strict", config) as daemon:
        strict = Place(daemon, "", Path(), {})
        text = strict.docker("import", "-", "mine:1", input=support.busybox_tar(), code=1)
        assert "policy.rules.local" in text
        text = strict.docker("load", input=support.busybox_tar(), code=1)
        assert "policy.rules.local" in text
        assert strict.docker("images", "--quiet") == ""
        clean.docker("create", "--name", "mover", "busybox", "sh")
        moved = clean.hooper("container", "move", "mover", daemon.address, check=False)
        assert moved.returncode == 1
        assert "policy.rules.local" in moved.stdout + moved.stderr
        assert clean.inspect("mover")["State"]["Status"] == "created"


def test_without_its_policy_no_image_is_used(short_tmp: Path) -> None:
    with support.hooper(short_tmp / "lost", '[policy]\nenabled = ["absent"]\n') as daemon:
        lost = Place(daemon, "", Path(), {})
        text = lost.docker("import", "-", "mine:1", input=support.busybox_tar(), code=1)
        assert 'the policy "absent" could not agree' in text
        assert "no plugin brings a policy of that name" in text
        lost.docker("ps")


def test_the_policy_is_listed(place: Place) -> None:
    found = [line.split() for line in place.hooper("plugin", "ls").splitlines()]
    assert any("policy" in words and "rules" in words and "active" in words for words in found), found


# --- hooper image verify ------------------------------------------------------------------------------


def test_verify_for_a_person(place: Place) -> None:
    name, key = place.name("team/signed:1"), str(place.key)
    text = place.hooper("image", "verify", "--key", key, name)
    assert text.startswith(f"{name}\n  {place.digests['team/signed:1']}\n")
    assert "bad   the tag" in text and "good  the tag" in text and f"for {place.name('team/signed')}" in text
    assert text.endswith("Verified: 1 of 2 signatures are good.\n")
    text = place.hooper("image", "verify", "--key", key, place.name("team/foreign:1"), code=1)
    assert text.endswith("Not verified: none of 1 signatures is good.\n")
    text = place.hooper("image", "verify", "--key", key, place.name("team/unsigned:1"), code=1)
    assert text.endswith("Not verified: it has no signatures.\n")
    found = json.loads(place.hooper("image", "verify", "--format", "json", "--key", key, place.name("team/bundled:1")))
    assert (found["Good"], len(found["Findings"])) == (True, 1)
    elsewhere = place.hooper("image", "verify", "--key", key, "--identity", "other.example/*", name, code=1)
    assert "not among the identities" in elsewhere


def test_verify_needs_a_key(place: Place, tmp_path: Path) -> None:
    name, bad = place.name("team/signed:1"), tmp_path / "bad.pub"
    assert "no key is given" in place.hooper("image", "verify", name, code=1)
    bad.write_text("what")
    assert "not a public key" in place.hooper("image", "verify", "--key", str(bad), name, code=1)
    assert "No such file" in place.hooper("image", "verify", "--key", "/none.pub", name, code=1)
