"""Parameters of requests to the Docker API."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from hooper.api.errors import InvalidArgument
from hooper_api_docker.query import Query

DEEP = '{"a":' * 50_000


@pytest.mark.parametrize("text", ["{", '{"a": 1}', DEEP, "\udc80"], ids=["cut", "no list", "deep", "no text"])
def test_filters_that_are_no_json_are_the_callers_fault(text: str) -> None:
    query = Query(b"filters=" + quote(text, errors="surrogateescape").encode())
    with pytest.raises(InvalidArgument, match="invalid filter"):
        query.filters()


def test_a_parameter_that_is_nested_too_deeply_is_the_callers_fault() -> None:
    with pytest.raises(InvalidArgument, match="invalid parameter deep"):
        Query(b"deep=" + quote(DEEP).encode()).json("deep", dict)
