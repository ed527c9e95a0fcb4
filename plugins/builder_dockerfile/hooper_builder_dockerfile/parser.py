"""From logical lines to instructions (Dockerfile reference, each instruction's section)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from hooper.api.model import Healthcheck
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.durations import nanoseconds
from hooper_builder_dockerfile.faults import Fault, Location
from hooper_builder_dockerfile.flags import take_flags
from hooper_builder_dockerfile.lexer import Lexer, LogicalLine
from hooper_builder_dockerfile.words import split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*\Z")
_NETWORKS = ("default", "none", "host")


def parse(text: str, file: str = "Dockerfile") -> ins.Recipe:
    """InvalidArgument names file and line of whatever is wrong."""
    lexer = Lexer(text, file)
    found = tuple(_instruction(line, lexer.escape) for line in lexer.lines())
    if not found:
        raise Location(file, 1).error("file with no instructions", "A Dockerfile begins with FROM.")
    return ins.Recipe(found, lexer.escape)


def parse_one(text: str, location: Location, escape: str = "\\") -> ins.Instruction:
    """One instruction that stands elsewhere (an ONBUILD trigger), with the place to blame."""
    lines = list(Lexer(text, location.file).lines())
    if len(lines) != 1:
        raise location.error(f"{text!r} is not one instruction", "Write one instruction.")
    return _instruction(LogicalLine(location, lines[0].text, lines[0].heredocs), escape)


class _Line:
    """A logical line while it is being understood."""

    def __init__(self, line: LogicalLine, escape: str) -> None:
        self.location, self.escape, self.heredocs = line.location, escape, line.heredocs
        self.keyword = line.keyword
        self.flags, self.rest = take_flags(self.keyword, line.rest, escape)
        self.shown = f"{self.keyword} {line.rest}".rstrip()

    def json_words(self) -> tuple[str, ...] | None:
        """The JSON form, None if it is none. Fault for an array of something else than strings."""
        if not self.rest.startswith("["):
            return None
        try:
            values = json.loads(self.rest)
        except (ValueError, RecursionError):
            return None
        if not isinstance(values, list):
            return None
        if not all(isinstance(value, str) for value in values):
            raise Fault("when using JSON array syntax, arrays must be comprised of strings only", "Quote each word.")
        return tuple(values)

    def words(self) -> tuple[str, ...]:
        """The JSON form or what stands between blanks."""
        words = self.json_words()
        if words is None and self.rest.startswith('["'):
            raise Fault(f"{self.keyword}: this is no JSON array: {self.rest}", f'Write {self.keyword} ["…", "…"].')
        return tuple(self.rest.split()) if words is None else words

    def one(self) -> str:
        if not self.rest:
            raise Fault(f"{self.keyword} requires exactly one argument", f"Write {self.keyword} VALUE.")
        return self.rest

    def some(self) -> tuple[str, ...]:
        words = self.words()
        if not words or not all(words):
            raise Fault(f"{self.keyword} requires at least one argument", f"Write {self.keyword} VALUE…")
        return words


def _instruction(line: LogicalLine, escape: str) -> ins.Instruction:
    with line.location.blamed():
        parser = _PARSERS.get(line.keyword)
        if parser is None:
            import difflib

            near = difflib.get_close_matches(line.keyword, _PARSERS, 1, 0.5)
            raise Fault(
                f"dockerfile parse error: unknown instruction: {line.keyword}",
                f"Did you mean {near[0]}?" if near else f"There are: {', '.join(_PARSERS)}.",
            )
        return parser(_Line(line, escape))


def _from(line: _Line) -> ins.From:
    words = line.rest.split()
    if len(words) not in (1, 3):
        raise Fault("FROM requires either one or three arguments", "Write FROM IMAGE or FROM IMAGE AS NAME.")
    name = ""
    if len(words) == 3:
        name = words[2].lower()
        if words[1].upper() != "AS":
            raise Fault(f"FROM {line.rest}: {words[1]!r} stands where AS is expected", "Write FROM IMAGE AS NAME.")
        if not _STAGE_NAME.match(name):
            raise Fault(
                f'invalid name for build stage: "{words[2]}"',
                "A name begins with a letter and has letters, digits and _ . - only.",
            )
    return ins.From(
        location=line.location, shown=line.shown, image=words[0], name=name, platform=line.flags.get("platform", "")
    )


def _arg(line: _Line) -> ins.Arg:
    words = split_words(line.rest, line.escape)
    if not words:
        raise Fault("ARG requires at least one argument", "Write ARG NAME or ARG NAME=DEFAULT.")
    arguments = []
    for word in words:
        name, equals, default = word.partition("=")
        if not name:
            raise Fault("ARG names can not be blank", "Write ARG NAME=DEFAULT.")
        arguments.append((name, default if equals else None))
    return ins.Arg(location=line.location, shown=line.shown, arguments=tuple(arguments))


def _pairs(line: _Line) -> tuple[tuple[str, str], ...]:
    words = split_words(line.rest, line.escape)
    if not words:
        raise Fault(f"{line.keyword} requires at least one argument", f"Write {line.keyword} NAME=VALUE.")
    if "=" not in words[0]:
        parts = line.rest.split(None, 1)
        if len(parts) < 2:
            raise Fault(f"{line.keyword} must have two arguments", f"Write {line.keyword} {parts[0]}=VALUE.")
        return ((parts[0], parts[1]),)
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Fault(
                f'can\'t find = in "{word}". Must be of the form: name=value', "Quote a value that holds blanks."
            )
        if not name:
            raise Fault(f"{line.keyword} names can not be blank", f"Write {line.keyword} NAME{word}.")
        pairs.append((name, value))
    return tuple(pairs)


def _env(line: _Line) -> ins.Env:
    return ins.Env(location=line.location, shown=line.shown, pairs=_pairs(line))


def _label(line: _Line) -> ins.Label:
    return ins.Label(location=line.location, shown=line.shown, pairs=_pairs(line))


def _command(line: _Line) -> tuple[tuple[str, ...], bool]:
    words = line.json_words()
    return ((line.rest,) if line.rest else (), True) if words is None else (words, False)


def _run(line: _Line) -> ins.Run:
    args, shell_form = _command(line)
    if not args or not any(args):
        raise Fault("RUN requires a command", "Write RUN COMMAND.")
    network = line.flags.get("network", "")
    if network and network not in _NETWORKS:
        raise Fault(f"invalid network mode: {network!r}", f"RUN --network takes {', '.join(_NETWORKS)}.")
    return ins.Run(
        location=line.location, shown=line.shown, args=args, shell_form=shell_form,
        heredocs=line.heredocs if shell_form else (), network="" if network == "default" else network,
    )  # fmt: skip


def _cmd(line: _Line) -> ins.Cmd:
    args, shell_form = _command(line)
    return ins.Cmd(location=line.location, shown=line.shown, args=args, shell_form=shell_form)


def _entrypoint(line: _Line) -> ins.Entrypoint:
    args, shell_form = _command(line)
    return ins.Entrypoint(location=line.location, shown=line.shown, args=args, shell_form=shell_form)


def _transfer(line: _Line) -> ins.Transfer:
    words = line.words()
    if len(words) < 2:
        raise Fault(
            f"{line.keyword} requires at least two arguments, but {'only one' if words else 'none'} was provided",
            f"Write {line.keyword} SOURCE… DESTINATION.",
        )
    source_stage = line.flags.get("from", "")
    if "$" in source_stage:
        raise Fault(
            "variable expansion is not supported for --from",
            "Name a stage for it: `ARG x`, `FROM ${x} AS name`, then --from=name.",
        )
    return ins.Transfer(
        location=line.location, shown=line.shown, keyword=line.keyword,
        sources=words[:-1], destination=words[-1], heredocs=line.heredocs,
        chown=line.flags.get("chown", ""), chmod=line.flags.get("chmod", ""),
        source_stage=source_stage, checksum=line.flags.get("checksum", ""),
    )  # fmt: skip


def _workdir(line: _Line) -> ins.Workdir:
    return ins.Workdir(location=line.location, shown=line.shown, path=line.one())


def _user(line: _Line) -> ins.User:
    return ins.User(location=line.location, shown=line.shown, user=line.one())


def _expose(line: _Line) -> ins.Expose:
    words = tuple(split_words(line.rest, line.escape))
    if not words:
        raise Fault("EXPOSE requires at least one argument", "Write EXPOSE PORT[/PROTOCOL].")
    return ins.Expose(location=line.location, shown=line.shown, ports=words)


def _volume(line: _Line) -> ins.Volume:
    return ins.Volume(location=line.location, shown=line.shown, paths=line.some())


def _stopsignal(line: _Line) -> ins.Stopsignal:
    return ins.Stopsignal(location=line.location, shown=line.shown, signal=line.one())


def _maintainer(line: _Line) -> ins.Maintainer:
    return ins.Maintainer(location=line.location, shown=line.shown, author=line.one())


def _shell(line: _Line) -> ins.Shell:
    words = line.json_words()
    if words is None:
        raise Fault("SHELL requires the arguments to be in JSON form", 'Write SHELL ["/bin/sh", "-c"].')
    if not words:
        raise Fault("SHELL requires at least one argument", 'Write SHELL ["/bin/sh", "-c"].')
    return ins.Shell(location=line.location, shown=line.shown, args=words)


def _healthcheck(line: _Line) -> ins.HealthcheckSetting:
    parts = line.rest.split(None, 1)
    kind = parts[0].upper() if parts else ""
    if kind == "NONE":
        if len(parts) > 1:
            raise Fault("HEALTHCHECK NONE takes no arguments", "Write HEALTHCHECK NONE.")
        return ins.HealthcheckSetting(location=line.location, shown=line.shown, check=Healthcheck(test=["NONE"]))
    if kind != "CMD":
        raise Fault(
            f'unknown type "{parts[0]}" in HEALTHCHECK (try CMD)' if parts else "HEALTHCHECK requires an argument",
            "Write HEALTHCHECK CMD COMMAND or HEALTHCHECK NONE.",
        )
    line.rest = parts[1] if len(parts) > 1 else ""
    args, shell_form = _command(line)
    if not args:
        raise Fault("missing command after HEALTHCHECK CMD", "Write HEALTHCHECK CMD COMMAND.")
    check = Healthcheck(
        test=["CMD-SHELL" if shell_form else "CMD", *args],
        interval=_interval(line, "interval"),
        timeout=_interval(line, "timeout"),
        start_period=_interval(line, "start-period"),
        start_interval=_interval(line, "start-interval"),
        retries=_retries(line.flags.get("retries", "0")),
    )
    return ins.HealthcheckSetting(location=line.location, shown=line.shown, check=check)


def _interval(line: _Line, flag: str) -> int:
    value = nanoseconds(line.flags.get(flag, "0"))
    if 0 < value < 1_000_000:
        raise Fault(f'interval "{flag}" cannot be less than 1ms', f"Write --{flag}=1ms or more.")
    return value


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Fault(f"--retries must be a number of 0 or more (not {text!r})", "Write --retries=3.")
    return int(text)


def _onbuild(line: _Line) -> ins.Onbuild:
    words = line.rest.split(None, 1)
    trigger = words[0].upper() if words else ""
    if not trigger:
        raise Fault("ONBUILD requires at least one argument", "Write ONBUILD INSTRUCTION.")
    if trigger == "ONBUILD":
        raise Fault("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", "Write ONBUILD INSTRUCTION.")
    if trigger in ("FROM", "MAINTAINER"):
        raise Fault(f"{trigger} isn't allowed as an ONBUILD trigger", "Write it in the Dockerfile itself.")
    body = "".join(f"\n{doc.content}{doc.name}" for doc in line.heredocs)
    text = line.rest + body
    # It is read now so that a mistake shows here, not in a build of somebody else.
    _instruction(LogicalLine(line.location, line.rest, line.heredocs), line.escape)
    return ins.Onbuild(location=line.location, shown=line.shown, trigger=text)


_PARSERS: dict[str, Callable[[_Line], ins.Instruction]] = {
    "FROM": _from,
    "RUN": _run,
    "CMD": _cmd,
    "LABEL": _label,
    "EXPOSE": _expose,
    "ENV": _env,
    "ADD": _transfer,
    "COPY": _transfer,
    "ENTRYPOINT": _entrypoint,
    "VOLUME": _volume,
    "USER": _user,
    "WORKDIR": _workdir,
    "ARG": _arg,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "HEALTHCHECK": _healthcheck,
    "SHELL": _shell,
    "MAINTAINER": _maintainer,
}
