"""Instructions that change nothing but the image's configuration: values in, values out."""

from __future__ import annotations

import json
import posixpath
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from hooper.api.model import ImageConfig
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.ports import exposed
from hooper_builder_dockerfile.scope import Scope
from hooper_builder_dockerfile.words import expand_words

Configured = tuple[ImageConfig, str]
"""The new configuration, and the history's words."""


def configure(instruction: ins.Instruction, scope: Scope) -> Configured | None:
    """What the instruction makes of the scope's configuration; None if it is of another sort.

    Variables and the author are set in the scope itself. Raises Fault for a bad value.
    """
    handler = _HANDLERS.get(type(instruction))
    return handler(instruction, scope) if handler else None


def _expanded(pairs: Iterable[tuple[str, str]], scope: Scope) -> dict[str, str]:
    found = {}
    for name, value in pairs:
        plain = scope.expand(name)
        if not plain:
            raise Fault(f"the name {name!r} is blank after expansion", "Give the variable in it a value.")
        found[plain] = scope.expand(value)
    return found


def _shown(pairs: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def _list(words: Iterable[str]) -> str:
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


def _env(step: ins.Env, scope: Scope) -> Configured:
    pairs = _expanded(step.pairs, scope)
    scope.environment.update(pairs)
    return scope.config, f" ENV {_shown(pairs)}"


def _label(step: ins.Label, scope: Scope) -> Configured:
    pairs = _expanded(step.pairs, scope)
    config = scope.config
    return replace(config, labels={**(config.labels or {}), **pairs}), f" LABEL {_shown(pairs)}"


def _command(step: ins.Command, scope: Scope) -> list[str]:
    if step.shell_form and step.args:
        return [*scope.shell(), *step.args]
    return list(step.args)


def _cmd(step: ins.Cmd, scope: Scope) -> Configured:
    words = _command(step, scope)
    scope.command_set = True
    return replace(scope.config, cmd=words), f" CMD {_list(words)}"


def _entrypoint(step: ins.Entrypoint, scope: Scope) -> Configured:
    words = _command(step, scope)
    config = scope.config
    cmd = config.cmd if scope.command_set else None
    return replace(config, entrypoint=words or None, cmd=cmd), f" ENTRYPOINT {_list(words)}"


def _user(step: ins.User, scope: Scope) -> Configured:
    user = scope.expand(step.user)
    return replace(scope.config, user=user), f" USER {user}"


def _expose(step: ins.Expose, scope: Scope) -> Configured:
    words = sorted(word for port in step.ports for word in expand_words(port, scope.lookup, scope.escape))
    config = scope.config
    ports: dict[str, dict[str, Any]] = {**(config.exposed_ports or {}), **{port: {} for port in exposed(words)}}
    return replace(config, exposed_ports=dict(sorted(ports.items()))), f" EXPOSE {' '.join(words)}"


def _volume(step: ins.Volume, scope: Scope) -> Configured:
    paths = [scope.expand(path).strip() for path in step.paths]
    if not all(paths):
        raise Fault("VOLUME specified can not be an empty string", "Write a path.")
    config = scope.config
    volumes: dict[str, dict[str, Any]] = {**(config.volumes or {}), **{path: {} for path in paths}}
    return replace(config, volumes=dict(sorted(volumes.items()))), f" VOLUME [{' '.join(paths)}]"


def _stopsignal(step: ins.Stopsignal, scope: Scope) -> Configured:
    text = scope.expand(step.signal)
    if not _is_signal(text):
        raise Fault(f"invalid signal: {text}", "Write a name such as SIGTERM, or a number from 1 to 64.")
    return replace(scope.config, stop_signal=text), f" STOPSIGNAL {text}"


def _is_signal(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return len(text) < 3 and 1 <= int(text) <= 64
    name = "SIG" + text.upper().removeprefix("SIG")
    base, _, offset = name.replace("-", "+").partition("+")
    if offset:
        return base in ("SIGRTMIN", "SIGRTMAX") and offset.isascii() and offset.isdigit() and int(offset) <= 30
    return base in signal.Signals.__members__


def _healthcheck(step: ins.HealthcheckSetting, scope: Scope) -> Configured:
    words = step.shown.split(None, 1)[1]
    return replace(scope.config, healthcheck=step.check), f" HEALTHCHECK {words}"


def _shell(step: ins.Shell, scope: Scope) -> Configured:
    return replace(scope.config, shell=list(step.args)), f" SHELL [{' '.join(step.args)}]"


def _onbuild(step: ins.Onbuild, scope: Scope) -> Configured:
    config = scope.config
    return replace(config, on_build=[*(config.on_build or ()), step.trigger]), f" ONBUILD {step.trigger}"


def _maintainer(step: ins.Maintainer, scope: Scope) -> Configured:
    scope.author = step.author
    return scope.config, f" MAINTAINER {step.author}"


def working_directory(step: ins.Workdir, scope: Scope) -> str:
    """Absolute and clean; a relative path goes on from the present one."""
    path = scope.expand(step.path)
    if not path:
        raise Fault("WORKDIR is empty after expansion", "Give the variable in it a value.")
    return posixpath.normpath(posixpath.join("/", scope.config.working_dir, path)).replace("//", "/")


_HANDLERS: dict[type[ins.Instruction], Callable[[Any, Scope], Configured]] = {
    ins.Env: _env,
    ins.Label: _label,
    ins.Cmd: _cmd,
    ins.Entrypoint: _entrypoint,
    ins.User: _user,
    ins.Expose: _expose,
    ins.Volume: _volume,
    ins.Stopsignal: _stopsignal,
    ins.HealthcheckSetting: _healthcheck,
    ins.Shell: _shell,
    ins.Onbuild: _onbuild,
    ins.Maintainer: _maintainer,
}
