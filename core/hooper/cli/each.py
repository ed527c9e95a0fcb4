"""The same for each of several things: go on after a failure, and fail in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hooper.api.errors import HooperError
from hooper.cli.errors import report


def for_each(names: Iterable[str], action: Callable[[str], object], *, shown: bool = True) -> int:
    """Runs `action` for every name and prints the name after it; the exit code: 1 if any failed.

    Errors are reported as they come. What an action returns, if a string, is printed instead of the name.
    """
    code = 0
    for name in names:
        try:
            result = action(name)
        except HooperError as error:
            report(error)
            code = 1
        else:
            if shown:
                print(result if isinstance(result, str) else name)
    return code
