"""Docker's own help says what its command line takes; hooper's takes the same, but for what is named here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import click
import pytest

from hooper.cli import table
from hooper.cli.app import root

pytestmark = pytest.mark.skipif(not shutil.which("docker"), reason="there is no docker command line here")

WITHOUT_COMMANDS = {
    "swarm": {"config", "node", "secret", "service", "stack", "swarm", "volume update"},
    "content trust": {"trust"},
    "plugins of docker's daemon, which are images": {
        f"plugin {verb}" for verb in "create disable enable install push rm set upgrade".split()
    },
    "experiments of docker's": {"checkpoint", "manifest"},
}
WITHOUT_FLAGS = {
    "swarm": {
        "volume create": "availability group limit-bytes required-bytes scope secret sharing topology-preferred "
        "topology-required type",
        "volume ls": "cluster",
    },
}

SHORTER = {"top", "container top"}
"""Commands of which hooper makes something with one word less: without a container, `top` shows all."""


class Flag(NamedTuple):
    """A flag as docker's help shows it: `short` may be empty, `takes_value` tells it from a switch."""

    short: str
    long: str
    takes_value: bool


class Help(NamedTuple):
    """What `docker COMMAND --help` says."""

    usage: str
    commands: list[str]
    aliases: list[str]
    flags: list[Flag]


@cache
def docker_text(path: str) -> str:
    # Without a daemon the command line shows all that it has.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_BUILDKIT": "0"}
    command = ["docker", *path.split(), "--help"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=30).stdout


@cache
def docker_help(path: str) -> Help:
    found = Help("", [], [], [])
    section = usage = ""
    for line in docker_text(path).splitlines():
        if line and not line.startswith(" "):
            section = line
            usage = usage or line.removeprefix("Usage:").strip()
        elif section == "Aliases:":
            found.aliases.extend(alias.strip().removeprefix("docker ") for alias in line.split(",") if alias.strip())
        elif section.endswith("ommands:") and (name := re.match(r"  ([\w-]+)\*? ", line)):
            found.commands.append(name[1])
        elif section.endswith("ptions:") and (
            flag := re.match(r"\s+(?:(-\w), )?(--[\w-]+)(?: ([\w-]+))?(?:\s{2}|$)", line)
        ):
            found.flags.append(Flag(flag[1] or "", flag[2], bool(flag[3])))
    return found._replace(usage=usage)


def all_commands(path: str = "") -> Iterator[str]:
    if any(path in names for names in WITHOUT_COMMANDS.values()):
        return
    yield path
    for name in docker_help(path).commands:
        yield from all_commands(f"{path} {name}".strip())


def find(path: str) -> click.Command | None:
    """Hooper's command of that name."""
    command: click.Command | None = root()
    context = click.Context(root(), info_name="hooper")
    for word in path.split():
        assert isinstance(command, click.Group), path
        command = command.get_command(context, word)
        if command is None:
            return None
        context = click.Context(command, parent=context, info_name=word)
    return command


def test_docker_tells_what_it_has() -> None:
    assert len(list(all_commands())) > 100
    assert Flag("-v", "--volume", True) in docker_help("run").flags
    assert Flag("-d", "--detach", False) in docker_help("run").flags
    assert "container run" in docker_help("run").aliases


def test_every_command_is_there() -> None:
    paths = [*all_commands(), *(alias for path in all_commands() for alias in docker_help(path).aliases)]
    assert [path for path in dict.fromkeys(paths) if find(path) is None] == []


def test_every_flag_is_taken_as_docker_takes_it() -> None:
    wrong = []
    for path in all_commands():
        command = find(path)
        assert command
        options = {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}
        lacking = " ".join(flags[path] for flags in WITHOUT_FLAGS.values() if path in flags).split()
        for flag in docker_help(path).flags:
            if flag.long in ("--help", *(f"--{name}" for name in lacking)):
                continue
            mine = options.get(flag.long)
            if mine is None or (flag.short and options.get(flag.short) is not mine):
                wrong.append(f"{path}: {flag.short} {flag.long}")
            elif mine.is_flag == flag.takes_value:
                wrong.append(f"{path}: {flag.long} {'takes' if flag.takes_value else 'takes no'} value")
    assert wrong == []


def test_flags_that_docker_repeats_may_be_repeated() -> None:
    wrong = []
    for path in all_commands():
        command = find(path)
        assert command
        options = {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}
        for name in re.findall(r"(--[\w-]+) (?:list|strings|map|filter|ulimit|mount|network)\b", docker_text(path)):
            if name in options and not options[name].multiple:
                wrong.append(f"{path}: {name}")
    assert wrong == []


@pytest.mark.parametrize(
    "word", sorted(name for names in WITHOUT_COMMANDS.values() for name in names if " " not in name)
)
def test_what_is_not_there_is_explained(word: str) -> None:
    assert word in table.ABSENT or find(word)


def test_positional_arguments_are_dockers() -> None:
    """As many words as docker wants at least, and no more than it takes."""
    wrong = []
    for path in all_commands():
        command = find(path)
        if isinstance(command, click.Group) or not command:
            continue
        usage = docker_help(path).usage.removeprefix(f"docker {path}").replace("[ps OPTIONS]", "[ARG...]")
        words = usage.replace("[OPTIONS]", "").split("|")[0].split()
        wanted = [word for word in words if not word.startswith("[")]
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        needed = sum(1 for one in arguments if one.required)
        if needed != len(wanted) - (path in SHORTER):
            wrong.append(f"{path}: {usage}, needs {needed}")
        endless = any(one.nargs == -1 for one in arguments)
        if endless != ("..." in usage):
            wrong.append(f"{path}: {usage}, endless: {endless}")
    assert wrong == []
