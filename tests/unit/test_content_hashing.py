"""sha256 on a thread."""

from __future__ import annotations

import hashlib

import pytest

from hooper.content.hashing import BackgroundHash


@pytest.mark.parametrize("chunks", [0, 1, 3, 200], ids=str)
def test_the_digest_is_that_of_all_pieces(chunks: int) -> None:
    """Empty ones, and views, among them; on both sides of what is worth a thread."""
    hashed, plain = BackgroundHash(), hashlib.sha256()
    for number in range(chunks):
        data = bytes([number]) * (1 << 16) * (number % 4)
        hashed.update(memoryview(data) if number % 2 else data)
        plain.update(data)
    assert hashed.finish() == f"sha256:{plain.hexdigest()}"
    assert hashed.size == sum((1 << 16) * (number % 4) for number in range(chunks))
