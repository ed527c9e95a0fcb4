"""Each instruction from its text (Dockerfile reference, the section of that name)."""

from __future__ import annotations

import re
from collections.abc import Callable

from hooper.api.model import Healthcheck
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.blanks import BLANKS, split
from hooper_builder_dockerfile.durations import nanoseconds
from hooper_builder_dockerfile.faults import Fault, nearest_or_all
from hooper_builder_dockerfile.line import Line
from hooper_builder_dockerfile.mounts import parse_mount
from hooper_builder_dockerfile.words import split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*\Z")
_SECURITY = ("sandbox", "insecure")


def _from(line: Line) -> ins.From:
    words = split(line.rest)
    if len(words) == 3 and words[1].upper() != "AS":
        raise Fault(
            f"FROM {line.rest}: '{words[1]}' stands where AS is expected", "Write FROM IMAGE AS NAME.", words[1]
        )
    if len(words) not in (1, 3):
        raise Fault("FROM requires either one or three arguments", "Write FROM IMAGE or FROM IMAGE AS NAME.")
    written = words[2] if len(words) == 3 else ""
    if written and not _STAGE_NAME.match(written.lower()):
        raise Fault(
            f'invalid name for build stage: "{written}", name can\'t start with a number or contain symbols',
            "A name begins with a letter and has letters, digits and _ . - only.",
            written,
        )
    return ins.From(
        **line.common(), image=words[0], name=written.lower(), platform=line.flags.one("platform"),
        written_as=words[1] if written else "", written_name=written,
    )  # fmt: skip


def _arg(line: Line) -> ins.Arg:
    words = split_words(line.rest, line.escape)
    if not words:
        raise Fault("ARG requires at least one argument", "Write ARG NAME or ARG NAME=DEFAULT.")
    arguments = []
    for word in words:
        name, equals, default = word.partition("=")
        if not name:
            raise Fault("ARG names can not be blank", "Write ARG NAME=DEFAULT.", word)
        arguments.append((name, default if equals else None))
    return ins.Arg(**line.common(), arguments=tuple(arguments))


def _pairs(line: Line) -> tuple[tuple[tuple[str, str], ...], bool]:
    words = split_words(line.rest, line.escape)
    if not words:
        raise Fault(f"{line.keyword} requires at least one argument", f"Write {line.keyword} NAME=VALUE.")
    if "=" not in words[0]:
        parts = split(line.rest, 1)
        if len(parts) < 2:
            raise Fault(f"{line.keyword} must have two arguments", f"Write {line.keyword} {parts[0]}=VALUE.", parts[0])
        return ((parts[0], parts[1]),), True
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Fault(
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value',
                "Quote a value that holds blanks.",
                word,
            )
        if not name:
            raise Fault(f"{line.keyword} names can not be blank", f"Write {line.keyword} NAME{word}.", word)
        pairs.append((name, value))
    return tuple(pairs), False


def _env(line: Line) -> ins.Env:
    pairs, legacy = _pairs(line)
    return ins.Env(**line.common(), pairs=pairs, legacy=legacy)


def _label(line: Line) -> ins.Label:
    pairs, legacy = _pairs(line)
    return ins.Label(**line.common(), pairs=pairs, legacy=legacy)


def _run(line: Line) -> ins.Run:
    args, shell_form = line.command()
    if not any(args):
        raise Fault("RUN requires a command", "Write RUN COMMAND.")
    network, security = line.flags.one("network"), line.flags.one("security") or "sandbox"
    if "network" in line.flags and not network:
        raise Fault('invalid network mode ""', "Write default, none, host, or the name of a network.", "--network")
    if security not in _SECURITY:
        raise Fault(f'security "{security}" is not valid', nearest_or_all(security, _SECURITY), security)
    return ins.Run(
        **line.common(), args=args, shell_form=shell_form, heredocs=line.heredocs if shell_form else (),
        network="" if network == "default" else network, security="" if security == "sandbox" else security,
        mounts=tuple(map(parse_mount, line.flags.many("mount"))),
    )  # fmt: skip


def _cmd(line: Line) -> ins.Cmd:
    args, shell_form = line.command()
    return ins.Cmd(**line.common(), args=args, shell_form=shell_form)


def _entrypoint(line: Line) -> ins.Entrypoint:
    args, shell_form = line.command()
    return ins.Entrypoint(**line.common(), args=args, shell_form=shell_form)


def _transfer(line: Line) -> ins.Transfer:
    words = _places(line)
    source_stage = line.flags.one("from")
    if "$" in source_stage:
        raise Fault(
            "variable expansion is not supported for --from",
            "Name a stage for it: `ARG x`, `FROM ${x} AS name`, then --from=name.",
            source_stage,
        )
    flags = line.flags
    return ins.Transfer(
        **line.common(), keyword=line.keyword, sources=words[:-1], destination=words[-1], heredocs=line.heredocs,
        chown=flags.one("chown"), chmod=flags.one("chmod"), source_stage=source_stage,
        checksum=flags.one("checksum"), link=bool(flags.boolean("link")), parents=bool(flags.boolean("parents")),
        exclude=flags.many("exclude"), keep_git_dir=flags.boolean("keep-git-dir"), unpack=flags.boolean("unpack"),
    )  # fmt: skip


def _places(line: Line) -> tuple[str, ...]:
    """Sources that are no here-documents, and the destination."""
    if line.openers and line.openers[-1][1] == len(line.rest):
        raise Fault(
            f"{line.keyword} cannot accept a heredoc as a destination",
            f"Write {line.keyword} <<NAME DESTINATION.",
            line.rest[line.openers[-1][0] :],
        )
    if line.openers:
        kept, position = [], 0
        for start, end in line.openers:
            kept.append(line.rest[position:start])
            position = end
        words = tuple(split("".join([*kept, line.rest[position:]]).strip(BLANKS)))
    else:
        words = line.words()
    if len(words) + len(line.openers) < 2:
        raise Fault(
            f"{line.keyword} requires at least two arguments, but {'only one' if words else 'none'} was provided. "
            "Destination could not be determined",
            f"Write {line.keyword} SOURCE… DESTINATION.",
        )
    return words


def _workdir(line: Line) -> ins.Workdir:
    return ins.Workdir(**line.common(), path=line.one())


def _user(line: Line) -> ins.User:
    return ins.User(**line.common(), user=line.one())


def _expose(line: Line) -> ins.Expose:
    words = tuple(split(line.rest))
    if not words:
        raise Fault("EXPOSE requires at least one argument", "Write EXPOSE PORT[/PROTOCOL].")
    return ins.Expose(**line.common(), ports=words)


def _volume(line: Line) -> ins.Volume:
    words = tuple(word.strip(BLANKS) for word in line.words())
    if not words:
        raise Fault("VOLUME requires at least one argument", "Write VOLUME PATH.")
    if not all(words):
        raise Fault("VOLUME specified can not be an empty string", "Write a path.", '""')
    return ins.Volume(**line.common(), paths=words)


def _stopsignal(line: Line) -> ins.Stopsignal:
    return ins.Stopsignal(**line.common(), signal=line.one())


def _maintainer(line: Line) -> ins.Maintainer:
    return ins.Maintainer(**line.common(), author=line.one())


def _shell(line: Line) -> ins.Shell:
    words = line.json_words()
    if words is None and line.rest:
        raise Fault("SHELL requires the arguments to be in JSON form", 'Write SHELL ["/bin/sh", "-c"].', line.rest)
    if not words:
        raise Fault("SHELL requires at least one argument", 'Write SHELL ["/bin/sh", "-c"].')
    return ins.Shell(**line.common(), args=words)


def _healthcheck(line: Line) -> ins.HealthcheckSetting:
    kind, *rest = split(line.rest, 1) or [""]
    if not kind:
        raise Fault("HEALTHCHECK requires at least one argument", "Write HEALTHCHECK CMD COMMAND or HEALTHCHECK NONE.")
    if kind.upper() == "NONE":
        if rest:
            raise Fault("HEALTHCHECK NONE takes no arguments", "Write HEALTHCHECK NONE.", rest[0])
        return ins.HealthcheckSetting(**line.common(), check=Healthcheck(test=["NONE"]))
    if kind.upper() != "CMD":
        raise Fault(
            f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)',
            "Write HEALTHCHECK CMD COMMAND or HEALTHCHECK NONE.",
            kind,
        )
    line.rest = rest[0] if rest else ""
    args, shell_form = line.command()
    if not args:
        raise Fault("Missing command after HEALTHCHECK CMD", "Write HEALTHCHECK CMD COMMAND.", kind)
    check = Healthcheck(
        test=["CMD-SHELL" if shell_form else "CMD", *args],
        interval=_interval(line, "interval"),
        timeout=_interval(line, "timeout"),
        start_period=_interval(line, "start-period"),
        start_interval=_interval(line, "start-interval"),
        retries=_retries(line.flags.one("retries") or "0"),
    )
    return ins.HealthcheckSetting(**line.common(), check=check)


def _interval(line: Line, flag: str) -> int:
    value = nanoseconds(line.flags.one(flag) or "0")
    if 0 < value < 1_000_000:
        raise Fault(f'Interval "{flag}" cannot be less than 1ms', f"Write --{flag}=1ms or more.", line.flags.one(flag))
    return value


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Fault(f"--retries must be a number of 0 or more (not '{text[:40]}')", "Write --retries=3.", text)
    return int(text)


STATEMENTS: dict[str, Callable[[Line], ins.Instruction]] = {
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
    "STOPSIGNAL": _stopsignal,
    "HEALTHCHECK": _healthcheck,
    "SHELL": _shell,
    "MAINTAINER": _maintainer,
}
"""All instructions but ONBUILD, which holds another."""
