"""What modes of files in --chmod mean, octal and symbolic."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.modes import parse_mode

FILE, DIRECTORY = 0o100000, 0o040000


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("644", FILE | 0o755, 0o644),
        ("0644", DIRECTORY | 0o755, 0o644),
        ("4755", FILE | 0o644, 0o4755),
        ("0", FILE | 0o644, 0),
        ("u=rwX,go=rX", FILE | 0o644, 0o644),
        ("u=rwX,go=rX", FILE | 0o700, 0o755),
        ("u=rwX,go=rX", DIRECTORY | 0o700, 0o755),
        ("a+x", FILE | 0o644, 0o755),
        ("+x", FILE | 0o644, 0o755),
        ("go-w", FILE | 0o666, 0o644),
        ("a=", FILE | 0o777, 0),
        ("g=u", FILE | 0o640, 0o660),
        ("o=g-w", FILE | 0o664, 0o664),
        ("u+s,g+s", FILE | 0o755, 0o6755),
        ("u-s", FILE | 0o4755, 0o755),
        ("+t", DIRECTORY | 0o777, 0o1777),
        ("a-X", DIRECTORY | 0o755, 0o644),
        ("u=rw,g+r,o-rwx", FILE | 0o007, 0o640),
        ("ug=rw", FILE | 0o4755, 0o665),
        ("u+r-w", FILE | 0o200, 0o400),
    ],
)
def test_modes(text, before, after):
    assert oct(parse_mode(text)(before)) == oct(after)


@pytest.mark.parametrize("text", ["", "999", "77777", "u", "rw", "u=z", "u=rw,", "-1", "0o644", "u=gx"])
def test_what_is_no_mode(text):
    with pytest.raises(InvalidArgument, match="invalid chmod parameter"):
        parse_mode(text)
