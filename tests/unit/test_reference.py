"""Image references."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.reference import Reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
        ("me/app", "docker.io/me/app", "me/app"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1", "[::1]:5000/app:1"),
        ("Upper/app", "Upper/app", "Upper/app"),
        ("quay.io/a/b:c", "quay.io/a/b:c", "quay.io/a/b:c"),
        ("docker.io/docker.io/a", "docker.io/docker.io/a", "docker.io/docker.io/a"),
        ("docker.io/localhost/a", "docker.io/localhost/a", "docker.io/localhost/a"),
        ("docker.io/a.b/c:1", "docker.io/a.b/c:1", "docker.io/a.b/c:1"),
        (f"docker.io/{'0' * 64}", f"docker.io/library/{'0' * 64}", f"docker.io/library/{'0' * 64}"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}", f"app:1@{DIGEST}"),
    ],
)
def test_normal_forms(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar) == (full, familiar)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "App",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:-b",
        "a:" + "x" * 129,
        "a@sha256:12",
        "-a",
        "a..b",
        "a b",
        "a\n",
        "0" * 64,
        "x/" + "y" * 255,
        "host_x:1/a",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        Reference.parse(text)


def test_the_default_tag_is_latest_only_where_nothing_is_given() -> None:
    assert Reference.parse("a").with_default_tag().tag == "latest"
    assert Reference.parse("a:1").with_default_tag().tag == "1"
    assert Reference.parse(f"a@{DIGEST}").with_default_tag().tag == ""
