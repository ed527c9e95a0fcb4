"""Completion in real shells: a key is pressed, and the names of the engine's containers come."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import Terminal

import support

pytestmark = pytest.mark.root
_START = {
    "bash": (["bash", "--norc", "-i"], "PS1='$ '; bind 'set bell-style none'; eval \"$(hooper completion bash)\"\n"),
    "zsh": (["zsh", "-f", "-i"], "PS1='ready$ '; unsetopt prompt_sp beep; eval \"$(hooper completion zsh)\"\n"),
    "fish": (
        ["fish", "--no-config", "-i"],
        "function fish_prompt; echo 'ready$ '; end; set -g fish_greeting; hooper completion fish | source\n",
    ),
}


@pytest.fixture
def home(tmp_path: Path, engine: support.Hooper) -> Iterator[dict[str, str]]:
    """An environment in which `hooper` is this one, with the engine of the tests."""
    program = tmp_path / "bin" / "hooper"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m hooper "$@"\n')
    program.chmod(0o755)
    (tmp_path / "filename-here").touch()
    yield {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "HOOPER_HOST": engine.address,
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }
    engine.clear()


@pytest.fixture(params=_START)
def shell(request: pytest.FixtureRequest, home: dict[str, str]) -> Iterator[Terminal]:
    """A shell that has hooper's completion, in a directory with the file `filename-here`."""
    command, setup = _START[request.param]
    if not shutil.which(command[0]):
        pytest.skip(f"there is no {command[0]} here")
    before = Path.cwd()
    os.chdir(home["HOME"])
    terminal = Terminal(command, home)
    os.chdir(before)
    terminal.type(setup.encode())
    terminal.type(b"echo is-set-$((40+2))\n" if request.param != "fish" else b"echo is-set-(math 40+2)\n")
    terminal.expect(b"is-set-42")
    terminal.forget()
    yield terminal
    terminal.kill()


def _completed(shell: Terminal, line: str, wanted: str) -> None:
    shell.forget()
    shell.type(line.encode() + b"\t")
    shell.expect(wanted.encode())
    # The line is taken away again.
    shell.type(b"\x15")


def test_names_commands_flags_and_files(shell: Terminal, engine: support.Hooper) -> None:
    engine.request("POST", "/containers/create?name=quaint-web", {"Image": "busybox", "Cmd": ["true"]})
    _completed(shell, "hooper unpa", "unpause")
    _completed(shell, "hooper rm qua", "quaint-web")
    _completed(shell, "hooper -D rm -f qua", "quaint-web")
    _completed(shell, "hooper run --privil", "--privileged")
    _completed(shell, "hooper run --restart unl", "unless-stopped")
    _completed(shell, "hooper run --rm -it busy", "busybox")
    _completed(shell, "hooper cp filena", "filename-here")
    _completed(shell, "hooper cp quain", "quaint-web:")
    _completed(shell, "hooper ps -a --filter status=exi", "exited")
    _completed(shell, "hooper network inspect hos", "host")
