"""The instructions that commit and import take ("CMD", "ENV", "LABEL"…), applied to an image's configuration.

They are read as in a Dockerfile: words may be quoted, and variables are those of the image's environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.model import Empty, ImageConfig
from hooper.engine import change_words as words
from hooper.engine import signals
from hooper.engine.ports import parse_port

_NO_TRIGGERS = ("FROM", "MAINTAINER", "ONBUILD")


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> None:
    """Each change is one instruction of a Dockerfile, or several on lines of their own.

    InvalidArgument for one that is not allowed here, or cannot be read.
    """
    has_command = False
    for change in (line for text in changes for line in text.splitlines() if line.strip()):
        instruction, _, rest = change.strip().partition(" ")
        name, rest = instruction.upper(), rest.strip()
        apply = _INSTRUCTIONS.get(name)
        if apply is None:
            raise InvalidArgument(
                f"{instruction.lower()} is not a valid change command", remedy=f"There are: {' '.join(_INSTRUCTIONS)}."
            )
        if not rest and name not in ("CMD", "ENTRYPOINT"):
            raise InvalidArgument(f"{name} requires at least one argument", remedy=f"Write {name} and its arguments.")
        if name == "ENTRYPOINT" and not has_command:
            config.cmd = None  # it was made for another program
        has_command = has_command or name == "CMD"
        apply(config, rest)


def environment(env: Sequence[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in env or ())}


def _cmd(config: ImageConfig, rest: str) -> None:
    config.cmd = _command(rest, config)


def _entrypoint(config: ImageConfig, rest: str) -> None:
    config.entrypoint = _command(rest, config)


def _env(config: ImageConfig, rest: str) -> None:
    added = words.pairs(rest, environment(config.env))
    kept = {**environment(config.env), **added}
    config.env = [f"{name}={value}" for name, value in kept.items()]


def _label(config: ImageConfig, rest: str) -> None:
    config.labels = {**(config.labels or {}), **words.pairs(rest, environment(config.env))}


def _expose(config: ImageConfig, rest: str) -> None:
    ports: dict[str, Empty] = {}
    for word in words.split(rest, environment(config.env)):
        span, _, protocol = word.partition("/")
        first, _, last = span.partition("-")
        low, high = parse_port(f"{first}/{protocol}")[0], parse_port(f"{last or first}/{protocol}")[0]
        if high < low:
            raise InvalidArgument(f'invalid port range "{word}"', remedy="Write FIRST-LAST with FIRST below LAST.")
        ports |= {f"{number}/{protocol or 'tcp'}": {} for number in range(low, high + 1)}
    config.exposed_ports = {**(config.exposed_ports or {}), **ports}


def _volume(config: ImageConfig, rest: str) -> None:
    paths = _list(rest) or words.split(rest, environment(config.env))
    config.volumes = {**(config.volumes or {}), **{path: {} for path in paths}}


def _user(config: ImageConfig, rest: str) -> None:
    config.user = words.one(rest, environment(config.env))


def _workdir(config: ImageConfig, rest: str) -> None:
    path = words.one(rest, environment(config.env))
    base = config.working_dir.rstrip("/")
    config.working_dir = path if path.startswith("/") else f"{base}/{path}"


def _stopsignal(config: ImageConfig, rest: str) -> None:
    name = words.one(rest, environment(config.env))
    signals.number(name)
    config.stop_signal = name


def _onbuild(config: ImageConfig, rest: str) -> None:
    trigger = rest.partition(" ")[0].upper()
    if trigger in _NO_TRIGGERS:
        raise InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
    config.on_build = [*(config.on_build or []), rest]


def _healthcheck(config: ImageConfig, rest: str) -> None:
    flags, kind, command = words.flags(rest)
    if kind.upper() == "NONE":
        if command:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        config.healthcheck = words.healthcheck(["NONE"], flags)
    elif kind.upper() == "CMD":
        if not command:
            raise InvalidArgument("Missing command after HEALTHCHECK CMD")
        listed = _list(command)
        config.healthcheck = words.healthcheck(["CMD", *listed] if listed else ["CMD-SHELL", command], flags)
    else:
        raise InvalidArgument(f'Unknown type "{kind}" in HEALTHCHECK', remedy="Write CMD and a command, or NONE.")


_INSTRUCTIONS: Mapping[str, Callable[[ImageConfig, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _list(text: str) -> list[str] | None:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return None


def _command(text: str, config: ImageConfig) -> list[str]:
    listed = _list(text)
    return listed if listed is not None else [*(config.shell or ["/bin/sh", "-c"]), text]
