"""Places of repositories, and names without a registry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hooper.api.errors import Forbidden, InvalidArgument
from hooper.api.reference import Reference
from hooper.engine.short_names import candidates
from hooper_registry_http.config import HostConfig, HttpConfig
from hooper_registry_http.routes import routes

_component = st.text(alphabet="ab0", min_size=1, max_size=4)
_host = st.builds(lambda name, port: f"{name}.io{port}", _component, st.sampled_from(("", ":5000")))
_path = st.lists(_component, min_size=1, max_size=3).map("/".join)


@given(_host, _path, _host, st.one_of(st.just(""), _path), st.integers(0, 3))
def test_a_rewrite_keeps_what_follows_its_prefix(host: str, path: str, target: str, prefix: str, depth: int) -> None:
    parts = path.split("/")
    kept = parts[min(depth, len(parts)) :]
    source = "/".join([host, *parts[: len(parts) - len(kept)]])
    place = f"{target}/{prefix}".strip("/")
    [route] = routes(HttpConfig(rewrites={source: place}), host, path, mirrors=False)
    assert (route.host, route.scheme) == (target, "")
    assert route.repository == "/".join(part for part in (prefix, *kept) if part)


@given(_host, _path, st.lists(_host, max_size=3), st.sampled_from(("", "http", "https")))
def test_the_registry_itself_comes_last(host: str, path: str, mirrors: list[str], scheme: str) -> None:
    written = [f"{scheme}://{each}" if scheme else each for each in mirrors]
    found = routes(HttpConfig(registries={host: HostConfig(mirrors=written)}), host, path, mirrors=True)
    assert [(route.host, route.scheme) for route in found] == [*((each, scheme) for each in mirrors), (host, "")]
    assert {route.repository for route in found} == {path}


@given(_host, _path, st.text(alphabet="ab.*?/[]", max_size=12))
def test_a_blocked_name_is_refused_or_goes_as_ever(host: str, path: str, pattern: str) -> None:
    plain = routes(HttpConfig(), host, path, mirrors=True)
    try:
        found = routes(HttpConfig(blocked={pattern: ""}), host, path, mirrors=True)
    except Forbidden as error:
        found = plain if pattern in error.remedy else []
    assert found == plain


@given(st.text(alphabet="aA0.:/@_-", max_size=20), st.lists(_host, max_size=3))
def test_a_name_means_itself_or_one_of_each_place(text: str, places: list[str]) -> None:
    try:
        given_name = Reference.parse(text)
        found = candidates(text, places)
    except InvalidArgument:
        return
    assert found == [given_name] or [one.host for one in found] == places
