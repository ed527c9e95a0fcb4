"""From a Dockerfile's text to its instructions. (Dockerfile reference.)"""

from __future__ import annotations

import dataclasses

from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.blanks import split
from hooper_builder_dockerfile.faults import Fault, Location, nearest
from hooper_builder_dockerfile.lexer import Lexer, LogicalLine
from hooper_builder_dockerfile.line import Line
from hooper_builder_dockerfile.statements import STATEMENTS

KEYWORDS = (*STATEMENTS, "ONBUILD")


def parse(text: str | bytes, file: str = "Dockerfile") -> ins.Recipe:
    """InvalidArgument shows file, line, cause and remedy of whatever is wrong. Bytes are UTF-8."""
    lexer = Lexer(_decoded(text, file) if isinstance(text, bytes) else text, file)
    found = tuple(_instruction(line, lexer.escape) for line in lexer.lines())
    if not found:
        raise lexer.location(1).error("file with no instructions", "A Dockerfile begins with FROM.")
    return ins.Recipe(found, lexer.escape, lexer.directives, file, lexer.source)


def parse_one(text: str, location: Location, escape: str = "\\") -> ins.Instruction:
    """One instruction that stands elsewhere (an ONBUILD trigger), with the place to blame."""
    lines = list(Lexer(text, location.file, escape, location).lines())
    if len(lines) != 1:
        raise location.error(f"{text[:200]!r} is not one instruction", "Write one instruction.")
    return _instruction(lines[0], escape)


def _decoded(text: bytes, file: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        number = text.count(b"\n", 0, error.start) + 1
        source = text.decode(errors="replace").split("\n")
        raise Location(file, number, number, source).error(
            f"dockerfile parse error on line {number}: the file is not UTF-8", "Save it as UTF-8.", "\ufffd"
        ) from error


def _instruction(line: LogicalLine, escape: str) -> ins.Instruction:
    with line.location.blamed_parse():
        keyword = line.keyword.upper()
        if keyword == "ONBUILD":
            return _onbuild(line, escape)
        statement = STATEMENTS.get(keyword)
        if statement is None:
            raise _unknown(line.keyword)
        return statement(Line(line, escape))


def _unknown(keyword: str) -> Fault:
    near = nearest(keyword.upper(), KEYWORDS)
    shown = keyword if len(keyword) <= 100 else f"{keyword[:100]}…"
    return Fault(
        f"unknown instruction: {shown}",
        f"Did you mean {near}?" if near else f"There are: {', '.join(KEYWORDS)}.",
        keyword,
    )


def _onbuild(line: LogicalLine, escape: str) -> ins.Onbuild:
    outer = Line(line, escape)
    trigger = split(outer.rest, 1)[0].upper() if outer.rest else ""
    if not trigger:
        raise Fault("ONBUILD requires at least one argument", "Write ONBUILD INSTRUCTION.")
    if trigger == "ONBUILD":
        raise Fault("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", "Write ONBUILD INSTRUCTION.")
    if trigger in ("FROM", "MAINTAINER"):
        raise Fault(f"{trigger} isn't allowed as an ONBUILD trigger", "Write it in the Dockerfile itself.", trigger)
    # It is read now so that a mistake shows here, not in a build of somebody else.
    shift = len(line.text) - len(outer.rest)
    inner = dataclasses.replace(
        line,
        text=outer.rest,
        openers=tuple(dataclasses.replace(o, start=o.start - shift, end=o.end - shift) for o in line.openers),
    )
    _instruction(inner, escape)
    body = "".join(f"\n{document.content}{document.name}" for document in line.heredocs)
    return ins.Onbuild(**outer.common(), trigger=outer.rest + body)
