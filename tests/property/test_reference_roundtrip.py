"""References read back as they were written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hooper.api.errors import InvalidArgument
from hooper.api.reference import Reference

_component = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-+)[a-z0-9]{1,8}){0,2}", fullmatch=True)
_host = st.one_of(
    st.just("localhost"),
    st.from_regex(r"[a-z0-9]{1,8}\.[a-z0-9]{1,8}(:[0-9]{1,5})?", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,8}:[0-9]{1,5}", fullmatch=True),
)
_tag = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True))
_digest = st.one_of(st.just(""), st.from_regex(r"sha256:[a-f0-9]{64}", fullmatch=True))


@given(_host, st.lists(_component, min_size=1, max_size=4), _tag, _digest)
def test_every_reference_reads_back(host: str, path: list[str], tag: str, digest: str) -> None:
    text = f"{host}/{'/'.join(path)}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = Reference.parse(text)
    assert (reference.tag, reference.digest) == (tag, digest)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


@given(st.text(alphabet="aA0.:/@_-[] \n", max_size=30))
def test_any_text_is_a_reference_or_an_invalid_argument(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidArgument:
        return
    assert Reference.parse(reference.familiar) == reference
