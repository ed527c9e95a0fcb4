"""A container's configuration from the request and its image's defaults."""

from __future__ import annotations

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.model import ContainerConfig, Healthcheck, ImageConfig


def merged(asked: ContainerConfig, image: ImageConfig) -> ContainerConfig:
    """The request wins; env and labels merge key by key; an entrypoint of the request drops the image's command.

    InvalidArgument if there is nothing to run.
    """
    entrypoint, cmd = asked.entrypoint, asked.cmd
    if entrypoint is None or entrypoint == []:
        if not cmd:
            cmd = image.cmd
        if entrypoint is None:
            entrypoint = image.entrypoint
    elif entrypoint == [""]:  # how clients say: none at all
        entrypoint = None
    if not entrypoint and not cmd:
        raise InvalidArgument(
            "no command specified", "neither the image nor the request names one", "Give the command after the image."
        )
    return msgspec.structs.replace(
        asked,
        entrypoint=entrypoint,
        cmd=cmd,
        env=_env(image.env, asked.env),
        labels={**(image.labels or {}), **(asked.labels or {})},
        exposed_ports={**(image.exposed_ports or {}), **(asked.exposed_ports or {})} or None,
        volumes={**(image.volumes or {}), **(asked.volumes or {})} or None,
        user=asked.user or image.user,
        working_dir=asked.working_dir or image.working_dir,
        stop_signal=asked.stop_signal or image.stop_signal,
        healthcheck=_healthcheck(asked.healthcheck, image.healthcheck),
        on_build=image.on_build,
    )


def merged_env(base: list[str] | None, over: list[str] | None) -> list[str]:
    """`over`'s variables in the places of `base`'s, new ones after; a bare NAME removes."""
    found = {item.partition("=")[0]: item for item in base or ()}
    for item in over or ():
        name, equals, _ = item.partition("=")
        if equals:
            found[name] = item
        else:
            found.pop(name, None)
    return list(found.values())


def _env(image: list[str] | None, asked: list[str] | None) -> list[str]:
    """As `merged_env`, in Docker's order: what was asked for comes first."""
    given = dict.fromkeys(item.partition("=")[0] for item in asked or ())
    found = {item.partition("=")[0]: item for item in merged_env(image, asked)}
    return [found.pop(name) for name in given if name in found] + list(found.values())


def _healthcheck(asked: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    if asked is None or image is None:
        return asked or image
    return Healthcheck(
        test=asked.test or image.test,
        interval=asked.interval or image.interval,
        timeout=asked.timeout or image.timeout,
        start_period=asked.start_period or image.start_period,
        start_interval=asked.start_interval or image.start_interval,
        retries=asked.retries or image.retries,
    )


def command(config: ContainerConfig) -> tuple[str, list[str]]:
    """Program and arguments."""
    words = [*(config.entrypoint or ()), *(config.cmd or ())]
    return words[0], words[1:]
