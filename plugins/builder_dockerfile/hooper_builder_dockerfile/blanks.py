"""What counts as a blank."""

from __future__ import annotations

import re

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's white space, for a class of a regular expression."""

BLANKS = SPACES.replace("\u2000-\u200a", "".join(map(chr, range(0x2000, 0x200B))))
"""The same characters, for `strip`."""

_BETWEEN = re.compile(r"[\t\v\f\r ]+")


def split(text: str, limit: int = 0) -> list[str]:
    """Words between the blanks that separate them in an instruction: `limit` splits at most, 0 is any number.

    Rarer blanks (a no-break space) are part of a word.
    """
    return _BETWEEN.split(text, limit) if text else []
