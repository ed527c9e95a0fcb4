"""What removal of images says and does, held to a real dockerd by running every test against it too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

import support

pytestmark = pytest.mark.root


@pytest.fixture
def images(either: support.Engine) -> Iterator[support.Engine]:
    """An engine; the images that a test makes are removed, with their containers."""
    kept = {image["Id"] for image in listed(either)}
    yield either
    either.clear()
    for _ in range(3):
        for image in listed(either):
            if image["Id"] not in kept:
                either.request("DELETE", f"/images/{image['Id']}?force=1")
    for image in listed(either):
        for tag in image["RepoTags"] or ():
            if tag not in ("busybox:latest", "<none>:<none>"):
                either.request("DELETE", f"/images/{tag}")


def listed(engine: support.Engine) -> list[dict[str, Any]]:
    return list(engine.request("GET", "/images/json?all=1")[1])


def make(engine: support.Engine, name: str, *changes: str, content: str = "") -> str:
    """An image of its own, and its id."""
    query = "".join(f"&changes={change.replace(' ', '%20')}" for change in changes)
    repository, _, tag = name.partition(":")
    engine.request(
        "POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}{query}",
        support.context_tar({"name": content or name}), {"Content-Type": "application/x-tar"},
    )  # fmt: skip
    return str(engine.request("GET", f"/images/{name}/json")[1]["Id"])


def create(engine: support.Engine, image: str) -> str:
    status, found = engine.request("POST", "/containers/create", {"Image": image, "Cmd": ["sleep", "60"]})
    assert status == 201, found
    return str(found["Id"])


def remove(engine: support.Engine, name: str, query: str = "") -> tuple[int, Any]:
    status, answer = engine.request("DELETE", f"/images/{name}{query}")
    if isinstance(answer, dict):
        # What hooper advises beyond that is on lines of its own.
        return status, answer["message"].partition("\n")[0]
    return status, [next(iter(one.items())) for one in answer]


def test_a_name_goes_and_the_image_with_its_last(images: support.Engine) -> None:
    image_id = make(images, "rules:1")
    images.docker("tag", "rules:1", "rules:2")
    assert remove(images, "rules:1") == (200, [("Untagged", "rules:1")])
    status, records = remove(images, "rules:2")
    assert status == 200 and records[:2] == [("Untagged", "rules:2"), ("Deleted", image_id)]
    assert len(records) == 3 and records[2][0] == "Deleted" and records[2][1].startswith("sha256:")
    assert remove(images, "rules:2") == (404, "No such image: rules:2")


def test_an_id_with_several_names_must_be_forced(images: support.Engine) -> None:
    image_id = make(images, "rules:1")
    images.docker("tag", "rules:1", "other/rules:2")
    short = image_id[7:19]
    assert remove(images, short) == (
        409,
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories",
    )
    status, records = remove(images, short, "?force=1")
    assert status == 200 and records[-2] == ("Deleted", image_id)
    assert {name for kind, name in records if kind == "Untagged"} == {"rules:1", "other/rules:2"}


def test_several_tags_of_one_repository_go_by_id_only_with_force(images: support.Engine) -> None:
    image_id = make(images, "rules:1")
    images.docker("tag", "rules:1", "rules:2")
    status, message = remove(images, image_id)
    assert (status, message) == (
        409,
        f"conflict: unable to delete {image_id[7:19]} (must be forced) - image is referenced in multiple repositories",
    )


@pytest.mark.parametrize("force", [False, True])
def test_a_stopped_container_holds_its_image_until_forced(images: support.Engine, force: bool) -> None:
    image_id = make(images, "rules:1")
    container, short = create(images, "rules:1"), image_id[7:19]
    if force:
        assert remove(images, image_id, "?force=1")[0] == 200
        assert images.inspect(container)["Image"] == image_id
        return
    assert remove(images, image_id) == (
        409,
        f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container"
        f" {container[:12]}",
    )
    assert remove(images, "rules:1") == (
        409,
        f'conflict: unable to remove repository reference "rules:1" (must force) - container {container[:12]}'
        f" is using its referenced image {short}",
    )


def test_a_running_container_holds_its_image_also_by_force(images: support.Engine) -> None:
    images.docker("tag", "busybox", "rules:run")
    images.docker("commit", create(images, "busybox"), "rules:1")
    image_id = str(images.request("GET", "/images/rules:1/json")[1]["Id"])
    container = create(images, "rules:1")
    images.request("POST", f"/containers/{container}/start")
    short = image_id[7:19]
    for query in ("", "?force=1"):
        assert remove(images, image_id, query) == (
            409,
            f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container"
            f" {container[:12]}",
        )
    # By its name it is untagged, and stays.
    assert remove(images, "rules:1", "?force=1") == (200, [("Untagged", "rules:1")])
    assert images.inspect(container)["Image"] == image_id


def test_an_image_with_children_stays(images: support.Engine) -> None:
    parent = make(images, "rules:parent", "CMD true")
    container = images.request("POST", "/containers/create", {"Image": "rules:parent", "Cmd": ["true"]})[1]["Id"]
    images.docker("commit", container, "rules:child")
    images.docker("rm", container)
    for query in ("", "?force=1"):
        assert remove(images, parent[7:19], query) == (
            409,
            f"conflict: unable to delete {parent[7:19]} (cannot be forced) - image has dependent child images",
        )
    assert remove(images, "rules:parent") == (200, [("Untagged", "rules:parent")])
    assert images.request("GET", f"/images/{parent}/json")[0] == 200


def test_a_tag_that_moves_leaves_its_image_dangling(images: support.Engine) -> None:
    first = make(images, "rules:1", content="first")
    make(images, "rules:1", content="second")
    filters = "filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D"
    assert first in {image["Id"] for image in images.request("GET", f"/images/json?{filters}")[1]}
    status, answer = images.request("POST", "/images/prune")
    assert status == 200 and first in {item.get("Deleted") for item in answer["ImagesDeleted"]}
    assert images.request("GET", "/images/rules:1/json")[0] == 200


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        ('{"dangling":["false"],"label":["keep=no"]}', {"rules:no", "rules:both"}),
        ('{"dangling":["false"],"label":["keep"],"label!":["more"]}', {"rules:no", "rules:yes"}),
        ('{"dangling":["false"],"label":["keep"],"until":["1h"]}', set()),
        ('{"dangling":["true"],"label":["keep"]}', set()),
        ('{"dangling":["false"],"label":["keep"],"until":["2099-01-01"]}', {"rules:no", "rules:yes", "rules:both"}),
    ],
)
def test_what_a_prune_removes(images: support.Engine, filters: str, gone: set[str]) -> None:
    names = {"rules:yes": ("yes", ""), "rules:no": ("no", ""), "rules:both": ("no", "x")}
    for name, (keep, more) in names.items():
        labels = [f"LABEL keep={keep}", *(["LABEL more=x"] if more else [])]
        make(images, name, *labels)
    status, answer = images.request("POST", f"/images/prune?filters={quote(filters)}")
    assert status == 200, answer
    left = {tag for image in listed(images) for tag in image["RepoTags"] or ()}
    assert {name for name in names if name not in left} == gone


def test_rmi_prints_what_went(images: support.Engine) -> None:
    image_id = make(images, "rules:1")
    printed = images.docker("rmi", "rules:1").stdout.splitlines()
    assert printed[:2] == ["Untagged: rules:1", f"Deleted: {image_id}"]
    assert re.fullmatch(r"Deleted: sha256:[0-9a-f]{64}", printed[2])
    failed = images.docker("rmi", "rules:1", check=False)
    assert failed.returncode == 1 and "No such image: rules:1" in failed.stderr
    assert images.docker("rmi", "-f", "rules:1", check=False).returncode == 0
