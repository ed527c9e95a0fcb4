"""The instructions that commit and import take ("CMD", "ENV", "LABEL"…), applied to an image's configuration."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.model import Empty, ImageConfig


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> None:
    """Each change is one instruction of a Dockerfile. InvalidArgument for one that is not allowed here."""
    for change in changes:
        instruction, _, rest = change.strip().partition(" ")
        _apply(config, instruction.upper(), rest.strip(), change)


def _apply(config: ImageConfig, instruction: str, rest: str, change: str) -> None:
    match instruction:
        case "CMD":
            config.cmd = _command(rest, config)
        case "ENTRYPOINT":
            config.entrypoint = _command(rest, config)
        case "ENV":
            config.env = _environment(config.env or [], _pairs(rest, change))
        case "LABEL":
            config.labels = {**(config.labels or {}), **_pairs(rest, change)}
        case "EXPOSE":
            ports: dict[str, Empty] = {word if "/" in word else f"{word}/tcp": {} for word in rest.split()}
            config.exposed_ports = {**(config.exposed_ports or {}), **ports}
        case "VOLUME":
            config.volumes = {**(config.volumes or {}), **{path: {} for path in _list(rest) or rest.split()}}
        case "USER":
            config.user = rest
        case "WORKDIR":
            base = config.working_dir.rstrip("/")
            config.working_dir = rest if rest.startswith("/") else f"{base}/{rest}"
        case "STOPSIGNAL":
            config.stop_signal = rest
        case "ONBUILD":
            config.on_build = [*(config.on_build or []), rest]
        case _:
            raise InvalidArgument(
                f"{instruction} is not a valid change command",
                remedy="There are: CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR.",
            )


def _list(text: str) -> list[str] | None:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return None


def _command(text: str, config: ImageConfig) -> list[str]:
    words = _list(text)
    return words if words is not None else [*(config.shell or ["/bin/sh", "-c"]), text]


def _pairs(text: str, change: str) -> dict[str, str]:
    """ "a=1 b='2 3'", or the old form "a 1"."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f'cannot read "{change}"', str(error)) from error
    if words and "=" not in words[0]:
        return {words[0]: text[len(words[0]) :].strip()}
    if not words or not all("=" in word for word in words):
        raise InvalidArgument(f'cannot read "{change}"', "it is not made of NAME=VALUE", 'For example ENV A=1 B="2 3".')
    return dict(word.split("=", 1) for word in words)


def _environment(env: Sequence[str], added: dict[str, str]) -> list[str]:
    kept = [item for item in env if item.partition("=")[0] not in added]
    return kept + [f"{name}={value}" for name, value in added.items()]
