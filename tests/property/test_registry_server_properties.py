"""What a client sends to the registry server is understood, or refused as the spec has it; never a fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hooper_registry_server import ranges
from hooper_registry_server.manifests import parse
from hooper_registry_server.names import check_name, digest_of, is_tag, looked_up
from hooper_registry_server.problems import Problem

DIGEST = digest_of(b"x")
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(DIGEST),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
_descriptor = st.fixed_dictionaries({}, optional={"digest": _json, "size": _json, "mediaType": _json, "urls": _json})
_members = {
    name: _json | _descriptor | st.lists(_descriptor, max_size=3)
    for name in (
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "artifactType",
    )
}


def outcome(function: Callable[..., Any], *values: Any) -> Any:
    """What it returns, or the Problem that it raises."""
    try:
        return function(*values)
    except Problem as problem:
        return problem


@given(st.fixed_dictionaries({}, optional=_members), st.text(max_size=60))
def test_any_document_is_a_manifest_or_refused(document: dict[str, Any], content_type: str) -> None:
    found = outcome(parse, json.dumps(document).encode(), content_type, DIGEST)
    if isinstance(found, Problem):
        assert (found.status, found.code) == (400, "MANIFEST_INVALID")
    else:
        # What comes back in headers cannot break out of them.
        assert found.media_type.isascii()
        assert found.media_type.isprintable()
        assert " " not in found.media_type


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_refused(content: bytes) -> None:
    assert outcome(parse, b"\x00" + content, "application/json", DIGEST).code == "MANIFEST_INVALID"


@given(st.integers(0, 1000), st.integers(0, 1200), st.integers(0, 1200))
def test_a_range_is_a_part_of_the_blob(size: int, first: int, last: int) -> None:
    content = bytes(number % 251 for number in range(size))
    for header, expected in (
        (f"bytes={first}-{last}", content[first : last + 1]),
        (f"bytes={first}-", content[first:]),
        (f"bytes=-{last}", content[max(size - last, 0) :] if last else b""),
    ):
        found = outcome(ranges.wanted, header, size)
        if isinstance(found, Problem):
            assert found.status == 416
            assert expected == b""
        elif found is not None:
            begin, count = found
            assert content[begin : begin + count] == expected
        else:
            assert last < first


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d*-\d*", fullmatch=True))
def test_any_header_is_a_range_or_none(text: str) -> None:
    for found in (outcome(ranges.wanted, text, 100), outcome(ranges.chunk, text, None)):
        assert not isinstance(found, Problem) or found.status in (400, 416)


@given(st.text(max_size=300))
def test_names_that_pass_cannot_leave_their_place(text: str) -> None:
    found = outcome(check_name, text)
    if isinstance(found, Problem):
        assert found.code == "NAME_INVALID"
    else:
        assert found.isascii() and ".." not in found and not found.startswith("/") and "\n" not in found


@given(st.text(max_size=140))
def test_references_are_tags_or_digests(text: str) -> None:
    found = outcome(looked_up, text)
    if isinstance(found, Problem):
        assert found.status in (400, 404)
    else:
        assert is_tag(found) or ":" in found
