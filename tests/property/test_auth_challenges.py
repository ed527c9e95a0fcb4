"""WWW-Authenticate headers."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from hooper_registry_http.challenge import Challenge, parse_challenges

_token = st.from_regex(r"[A-Za-z][A-Za-z0-9_.~-]{0,10}", fullmatch=True)
_value = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
_parameters = st.dictionaries(_token.map(str.lower), _value, max_size=4)
_challenges = st.lists(st.builds(Challenge, _token.map(str.lower), _parameters), min_size=1, max_size=3)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _written(challenge: Challenge) -> str:
    parameters = ", ".join(f"{name}={_quoted(value)}" for name, value in challenge.parameters.items())
    return f"{challenge.scheme} {parameters}".strip()


@given(_challenges)
def test_what_is_written_is_read(challenges: list[Challenge]) -> None:
    assert parse_challenges([", ".join(_written(challenge) for challenge in challenges)]) == challenges
    assert parse_challenges([_written(challenge) for challenge in challenges]) == challenges


@given(st.text(max_size=60))
@example("Bearer realm=")
@example("Negotiate YWJj==, Basic")
@example('Bearer realm="open')
def test_nothing_makes_the_reader_fail(text: str) -> None:
    for challenge in parse_challenges([text]):
        assert challenge.scheme == challenge.scheme.lower() != ""


def test_several_challenges_in_one_field() -> None:
    header = (
        'Negotiate YWJj==, Bearer realm="https://a/token?x=1,2", service=reg ,scope="a:b:pull,push", '
        'BASIC realm="x\\"y"'
    )
    assert parse_challenges([header]) == [
        Challenge("negotiate", {}),
        Challenge("bearer", {"realm": "https://a/token?x=1,2", "service": "reg", "scope": "a:b:pull,push"}),
        Challenge("basic", {"realm": 'x"y'}),
    ]
