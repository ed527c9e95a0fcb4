"""What image policies are asked, and when, by an image service with an in-process registry. No root needed."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from images_support import Host
from test_registry_images import Pushed

from hooper.api.driver import DriverContext
from hooper.api.errors import Forbidden, InvalidArgument, NotFound
from hooper.api.policy import ImagePolicy, ImageSubject, Origin, Purpose
from hooper.api.reference import Reference
from hooper.engine import policy as engine_policy
from hooper.engine.policy import PolicyGate
from hooper.testing.registry import Registry

pytestmark = pytest.mark.anyio


class Asked(ImagePolicy):
    """Remembers what it is asked, and does `then`."""

    def __init__(self, then: Callable[[ImageSubject], Awaitable[None]] | None = None) -> None:
        super().__init__(cast(DriverContext, SimpleNamespace(name="asked")))
        self.subjects: list[ImageSubject] = []
        self.labels: list[dict[str, str]] = []
        self._then = then

    async def decide(self, subject: ImageSubject) -> None:
        self.subjects.append(subject)
        self.labels.append(dict(await subject.services.labels()))
        if self._then is not None:
            await self._then(subject)


def raising(error: Exception) -> Callable[[ImageSubject], Awaitable[None]]:
    async def fail(subject: ImageSubject) -> None:
        raise error

    return fail


def guarded(directory: Path, **policies: Any) -> Host:
    host = Host(directory)
    images = host.images
    log = SimpleNamespace(exception=lambda *args, **more: logging.getLogger("test").info("%s", args))
    images.guard(PolicyGate(policies, images.store, images.registry_for, log))
    return host


async def test_a_pull_is_asked_with_its_digests_before_anything_is_stored(tmp_path: Path) -> None:
    stored: list[int] = []
    pushed = Pushed()

    async def look(subject: ImageSubject) -> None:
        stored.append(len(list((tmp_path / "host" / "content").rglob("*.*"))) + host.rows("images"))

    policy = Asked(look)
    host = guarded(tmp_path / "host", asked=policy)
    async with Registry() as registry:
        await pushed.push(registry.host, "team/app", "1")
        await host.images.pull(f"{registry.host}/team/app:1", host.sink)
        (subject,) = policy.subjects
        digest = pushed.manifest.descriptor.digest
        assert subject.origins == (Origin(registry.host, "team/app", digest, digest, ("1",)),)
        assert (subject.purpose, subject.image_id) == (Purpose.PULL, pushed.id)
        assert subject.reference == Reference(registry.host, "team/app", "1")
        assert stored == [0]
        # Once allowed, it is not asked again; for another purpose, or by another name, it is.
        await host.images.pull(f"{registry.host}/team/app:1", host.sink)
        assert len(policy.subjects) == 1
        await host.images.gate.run(f"{registry.host}/team/app:1", pushed.id)
        await host.images.gate.build(pushed.id, pushed.id)
        assert [s.purpose for s in policy.subjects[1:]] == [Purpose.RUN, Purpose.BUILD]
        assert [s.reference is None for s in policy.subjects[1:]] == [False, True]
        assert all(s.origins == subject.origins for s in policy.subjects[1:])


async def test_what_is_denied_is_asked_again(tmp_path: Path) -> None:
    policy = Asked(raising(Forbidden("not today", "it is Sunday", "Wait.")))
    host = guarded(tmp_path / "host", calendar=policy)
    async with Registry() as registry:
        await Pushed().push(registry.host, "app", "1")
        for count in (1, 2):
            with pytest.raises(Forbidden) as caught:
                await host.images.pull(f"{registry.host}/app:1", host.sink)
            assert len(policy.subjects) == count
    assert caught.value.what == f'the policy "calendar" denies that {registry.host}/app:1 is pulled'
    assert (caught.value.why, caught.value.remedy) == ("not today: it is Sunday", "Wait.")
    assert (host.rows("images"), host.rows("blobs"), host.messages) == (0, 0, [])


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("a bug"), "ValueError: a bug"),
        (NotFound("nothing there", "gone"), "nothing there: gone"),
        (KeyError("x"), "KeyError"),
    ],
)
async def test_a_policy_that_breaks_has_not_agreed(tmp_path: Path, error: Exception, why: str) -> None:
    host = guarded(tmp_path / "host", good=Asked(), broken=Asked(raising(error)))
    async with Registry() as registry:
        await Pushed().push(registry.host, "app", "1")
        with pytest.raises(Forbidden) as caught:
            await host.images.pull(f"{registry.host}/app:1", host.sink)
    assert 'the policy "broken" could not agree' in caught.value.what
    assert why in caught.value.why


async def test_a_policy_that_could_not_be_loaded_lets_nothing_pass(tmp_path: Path) -> None:
    host = guarded(tmp_path / "host", lost="it has no module")
    with pytest.raises(Forbidden, match="it has no module"):
        await host.images.gate.run("app", "sha256:" + "0" * 64)


async def test_a_policy_that_hangs_has_not_agreed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(subject: ImageSubject) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(engine_policy, "_SECONDS", 0.05)
    host = guarded(tmp_path / "host", slow=Asked(hang))
    with pytest.raises(Forbidden, match="took longer"):
        await host.images.gate.run("app", "sha256:" + "0" * 64)


async def test_all_policies_must_agree(tmp_path: Path) -> None:
    first, second = Asked(), Asked(raising(Forbidden("no")))
    host = guarded(tmp_path / "host", first=first, second=second)
    with pytest.raises(Forbidden, match='"second" denies'):
        await host.images.gate.loading()
    assert len(first.subjects) == len(second.subjects) == 1


async def test_a_push_is_asked_with_its_destination(tmp_path: Path) -> None:
    policy = Asked()
    host = guarded(tmp_path / "host", asked=policy)
    async with Registry() as registry:
        pushed = Pushed()
        await pushed.push(registry.host, "app", "1")
        await host.images.pull(f"{registry.host}/app:1", host.sink)
        await host.images.tag(f"{registry.host}/app:1", f"{registry.host}/copy:2")
        await host.images.push(f"{registry.host}/copy:2", host.sink)
        asked = policy.subjects[-1]
        assert (asked.purpose, asked.reference) == (Purpose.PUSH, Reference(registry.host, "copy", "2"))
        assert [origin.repository for origin in asked.origins] == ["app"]
        # From now on that place has it too.
        await host.images.gate.run(pushed.id, pushed.id)
        assert [origin.repository for origin in policy.subjects[-1].origins] == ["app", "copy"]


async def test_taking_a_name_away_does_not_change_where_an_image_came_from(tmp_path: Path) -> None:
    policy = Asked()
    host = guarded(tmp_path / "host", asked=policy)
    async with Registry() as registry:
        pushed = Pushed()
        await pushed.push(registry.host, "app", "1")
        await host.images.pull(f"{registry.host}/app:1", host.sink)
        await host.images.tag(f"{registry.host}/app:1", "mine:1")
        await host.images.remove(f"{registry.host}/app:1")
        assert (await host.images.get("mine:1")).digests == []
        await host.images.gate.run("mine:1", pushed.id)
        assert [origin.name for origin in policy.subjects[-1].origins] == [f"{registry.host}/app"]


async def test_what_is_only_called_so_comes_from_no_registry(tmp_path: Path) -> None:
    """An image of a layout may be given any name here."""
    policy = Asked()
    host = guarded(tmp_path / "host", asked=policy)
    async with Registry() as registry:
        pushed = Pushed()
        await pushed.push(registry.host, "app", "1")
        async with host.images.puller.connected(Reference(registry.host, "app", "1"), None) as client:
            top = await client.resolve("app", "1")
            named = Reference("good.example", "app", "1")
            layout = SimpleNamespace(
                resolve=lambda _, reference: client.resolve("app", reference),
                fetch=lambda _, blob, offset=0: client.fetch("app", blob, offset),
            )
            await host.images.puller.take(cast(Any, layout), named, top, host.sink, "")
    await host.images.gate.run("good.example/app:1", pushed.id)
    assert [(s.purpose, s.given, s.origins) for s in policy.subjects] == [
        (Purpose.LOAD, "good.example/app:1", ()),
        (Purpose.RUN, "good.example/app:1", ()),
    ]


def test_without_policies_nothing_of_them_is_imported() -> None:
    program = (
        "import sys; import hooper.engine.engine, hooper.engine.creation; "
        "from hooper.plugins.manager import load_plugins; "
        "load_plugins(); print([m for m in sys.modules if m.startswith(('hooper.api.policy', 'hooper.engine.policy', "
        "'hooper_policy_rules.', 'cryptography'))])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "['hooper_policy_rules.plugin']"


async def test_verify_needs_a_policy_that_can(tmp_path: Path) -> None:
    host = guarded(tmp_path / "host")

    async def find() -> ImagePolicy:
        return Asked()

    host.images.policy_verifier = find
    async with Registry() as registry:
        await Pushed().push(registry.host, "app", "1")
        with pytest.raises(Exception, match="verifies no signatures"):
            await host.images.verify(f"{registry.host}/app:1", ["key"])
        with pytest.raises(InvalidArgument):
            await host.images.verify("UPPER/CASE", ["key"])
