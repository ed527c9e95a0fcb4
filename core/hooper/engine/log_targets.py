"""What becomes of a container's log options: those of its driver, those that every log has, and the words that go
into each line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.log_options import boolean, size
from hooper.api.logs import LogDriver, LogTarget, not_readable
from hooper.api.model import Container

MODE, BUFFER, NON_BLOCKING = "mode", "max-buffer-size", "non-blocking"
CACHE_PREFIX = "cache-"
CACHE_DISABLED = "cache-disabled"
DEFAULT_BUFFER = "1m"
DAEMON_NAME = "docker"
"""What {{.DaemonName}} is: tags that are made with it for Docker stay the same."""

Options = Mapping[str, str]


def defaults(configured: Mapping[str, Any]) -> dict[str, str]:
    """The options of the configuration's `[log.options]`, as a user would type them."""
    shown = {True: "true", False: "false"}
    return {name: shown[value] if isinstance(value, bool) else str(value) for name, value in configured.items()}


def merged(options: dict[str, str] | None, configured: Options) -> dict[str, str] | None:
    """A container's options with the daemon's where it gives none; the daemon's are for its default driver."""
    return {**configured, **(options or {})} if configured else options


def check(drivers: Mapping[str, LogDriver], cache: str, name: str, options: Options) -> None:
    """InvalidArgument names what is wrong, or the drivers that there are."""
    if name == "none":
        return
    _common(options)
    driver = drivers.get(name)
    if driver is None:
        raise InvalidArgument(
            f'logger: no log driver named "{name}" is registered', remedy=f"There are: {', '.join(sorted(drivers))}."
        )
    driver.check(_own(options))
    if cache and _is_copied(drivers, name, options):
        drivers[cache].check(_of_cache(options))


def check_words(container: Container) -> None:
    """The regular expressions and the tag among the options are right."""
    options = container.host_config.log_config.config
    if options and container.log_driver != "none":
        attributes(options, container.config.labels or {}, container.config.env or ())
        tag(container)


def _common(options: Options) -> int:
    """The bytes of `LogTarget.buffer`."""
    mode = options.get(MODE, "")
    if mode not in ("", "blocking", NON_BLOCKING):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}", remedy="It is blocking or non-blocking.")
    if BUFFER in options and mode != NON_BLOCKING:
        raise InvalidArgument(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            remedy="Add that mode, or leave the size out.",
        )
    boolean(options, CACHE_DISABLED, False)
    return size(options, BUFFER, DEFAULT_BUFFER, unit=1024) if mode == NON_BLOCKING else 0


def _own(options: Options) -> dict[str, str]:
    """What is left for the driver."""
    return {
        name: value
        for name, value in options.items()
        if name not in (MODE, BUFFER) and not name.startswith(CACHE_PREFIX)
    }


def _is_copied(drivers: Mapping[str, LogDriver], name: str, options: Options) -> bool:
    """It is given to a driver that cannot be read, and so to one more that can."""
    driver = drivers.get(name)
    unreadable = driver is not None and not driver.readable and name != "none"
    return unreadable and not boolean(options, CACHE_DISABLED, False)


def target(container: Container, directory: Path, drivers: Mapping[str, LogDriver], cache: str) -> LogTarget:
    """For the writer. `cache` is the driver that keeps readable copies, or ""."""
    options = container.host_config.log_config.config or {}
    if not _is_copied(drivers, container.log_driver, options):
        cache = ""
    if not options:
        return LogTarget(
            container_id=container.id,
            container_name=container.name,
            image=container.config.image,
            directory=directory,
            cache=cache,
        )
    return LogTarget(
        container_id=container.id,
        container_name=container.name,
        image=container.config.image,
        directory=directory,
        options=_own(options),
        attributes=attributes(options, container.config.labels or {}, container.config.env or ()),
        tag=tag(container),
        buffer=_common(options),
        cache=cache,
        cache_options=_of_cache(options),
    )


def reading(drivers: Mapping[str, LogDriver], name: str, writing: LogTarget) -> tuple[LogDriver, LogTarget]:
    """What is asked for the log of a container, and how. Unsupported if nothing that can be read is kept."""
    driver = drivers.get(name)
    if writing.cache:
        return drivers[writing.cache], cache_target(writing)
    if driver is None:
        raise NotFound(f'log driver "{name}"', "the container was made with it", "Enable the plugin that brings it.")
    if not driver.readable:
        raise not_readable(name)
    return driver, writing


def cache_target(writing: LogTarget) -> LogTarget:
    """The readable copy, as its driver sees it."""
    return LogTarget(
        container_id=writing.container_id,
        container_name=writing.container_name,
        image=writing.image,
        directory=writing.directory,
        options=writing.cache_options,
        attributes=writing.attributes,
        tag=writing.tag,
    )


def _of_cache(options: Options) -> dict[str, str]:
    return {
        name.removeprefix(CACHE_PREFIX): value
        for name, value in options.items()
        if name.startswith(CACHE_PREFIX) and name != CACHE_DISABLED
    }


def attributes(options: Options, labels: Mapping[str, str], env: Any) -> dict[str, str]:
    """The labels and variables that `labels`, `labels-regex`, `env` and `env-regex` name."""
    found: dict[str, str] = {}
    if options.get("labels") or options.get("labels-regex"):
        found |= _chosen(options, "labels", labels)
    if options.get("env") or options.get("env-regex"):
        found |= _chosen(options, "env", dict(entry.split("=", 1) for entry in env if "=" in entry))
    return found


def _chosen(options: Options, option: str, values: Mapping[str, str]) -> dict[str, str]:
    names, pattern = options.get(option, "").split(","), options.get(f"{option}-regex", "")
    try:
        matches = re.compile(pattern).search if pattern else None
    except re.error as error:
        raise InvalidArgument(
            f"invalid log opt {option}-regex={pattern}", f"it is no regular expression: {error}", "Correct that option."
        ) from error
    return {name: value for name, value in values.items() if name in names or (matches and matches(name))}


def tag(container: Container) -> str:
    """The option `tag` with what its template names filled in."""
    options = container.host_config.log_config.config or {}
    template = options.get("tag", "")
    if "{{" not in template:
        return template
    from hooper.gotemplate.template import render

    try:
        return render(template, _facts(container, options))
    except InvalidArgument as error:
        raise InvalidArgument(
            f"invalid log opt tag={template}", str(error),
            "It may have {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, {{.ImageFullID}}, {{.ImageName}}, "
            "{{.Command}}, {{.Hostname}} and {{.DaemonName}}.",
        ) from error  # fmt: skip


def _facts(container: Container, options: Options) -> dict[str, Any]:
    """Docker's logger.Info, fields and methods."""
    import os

    labels, env = container.config.labels or {}, container.config.env or []
    return {
        "ID": container.id[:12],
        "FullID": container.id,
        "Name": container.name,
        # As Docker has it: the prefix counts.
        "ImageID": container.image_id[:12],
        "ImageFullID": container.image_id,
        "ImageName": container.config.image,
        "ImageFullName": container.config.image,
        "Command": " ".join([container.path, *container.args]),
        "Hostname": os.uname().nodename,
        "DaemonName": DAEMON_NAME,
        "ContainerID": container.id,
        "ContainerName": f"/{container.name}",
        "ContainerEntrypoint": container.path,
        "ContainerArgs": container.args,
        "ContainerImageID": container.image_id,
        "ContainerImageName": container.config.image,
        "ContainerCreated": container.created,
        "ContainerEnv": env,
        "ContainerLabels": labels,
        "Config": dict(options),
        "LogPath": container.log_path,
        "ExtraAttributes": lambda *_: attributes(options, labels, env),
    }
