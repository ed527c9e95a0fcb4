"""What is wrong with a recipe, and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hooper.api.errors import InvalidArgument


class Fault(Exception):
    """Something wrong in a piece of text, found where its place in the file is not known."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why, self.remedy = why, remedy


@dataclass(frozen=True)
class Location:
    file: str
    line: int
    """From 1 on: the first line of an instruction."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def error(self, why: str, remedy: str = "") -> InvalidArgument:
        return InvalidArgument(str(self), why, remedy)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turns a `Fault` within into InvalidArgument with this place."""
        try:
            yield
        except Fault as fault:
            raise self.error(fault.why, fault.remedy) from fault
