"""Instructions as text again: one line each, flags before arguments, so that parsing it gives the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.blanks import BLANKS, split
from hooper_builder_dockerfile.durations import duration
from hooper_builder_dockerfile.heredocs import Heredoc
from hooper_builder_dockerfile.mounts import mount_text


def print_recipe(recipe: ins.Recipe) -> str:
    """A Dockerfile that says the same; comments, and lines that were continued, are gone."""
    directives = [
        f"# {name}={value}\n"
        for name in ("syntax", "escape", "check")
        if (value := getattr(recipe.directives, name))
    ]  # fmt: skip
    steps = [print_instruction(instruction, recipe.escape) for instruction in recipe.instructions]
    return "".join([*directives, *steps])


def print_instruction(instruction: ins.Instruction, escape: str = "\\") -> str:
    """Its line, and the lines of its here-documents, each with a line feed."""
    return _line(_PRINTERS[type(instruction)](instruction, escape), escape)


def _line(text: str, escape: str) -> str:
    """A line that ends in one escape would go on in the next; a blank that is no space prevents it."""
    first, feed, rest = text.partition("\n")
    if first.endswith(escape) and not first.endswith(escape * 2):
        first += "\v"
    return f"{first}{feed}{rest}\n"


# --- flags --------------------------------------------------------------------------------------------


def _flags(values: Iterable[tuple[str, str | bool | Sequence[str] | None]], escape: str) -> str:
    """Those that are set, each with a space after it."""
    words: list[str] = []
    for name, value in values:
        if isinstance(value, bool):
            words.append(f"--{name} " if value else f"--{name}=false ")
        elif isinstance(value, str):
            words += [f"--{name}={_quoted(value, escape)} "] if value else []
        else:
            words += [f"--{name}={_quoted(one, escape)} " for one in value or ()]
    return "".join(words)


def _quoted(value: str, escape: str) -> str:
    """A flag's value, whose quotes and escapes are removed when it is read."""
    return "".join(escape + char if char in f"'\"{escape}" or char in BLANKS else char for char in value)


# --- arguments ----------------------------------------------------------------------------------------


def _json(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)


def _command(args: Sequence[str], shell_form: bool) -> str:
    return _text("".join(args)) if shell_form else _json(args)


def _text(text: str) -> str:
    """What would be read as a flag is kept from that."""
    return f"-- {text}" if text.startswith("--") else text


def _documents(documents: Iterable[Heredoc]) -> str:
    return "".join(f"\n{document.content}{document.name}" for document in documents)


def _opener(document: Heredoc) -> str:
    name = document.name
    if document.expand or "'" in name:
        name = ("" if document.expand else "''") + re.sub(r"([^\w.])", r"\\\1", name)
    else:
        name = f"'{name}'"
    return f"{document.descriptor}<<{'-' if document.strip_tabs else ''}{name}"


def _quotable(words: Iterable[str], escape: str) -> str:
    """Words with their quotes. One that ends in a blank has an open quote, and an escape that saved the blank."""
    text = " ".join(words)
    return _text(text if text.rstrip(BLANKS) == text else text + escape)


def _words(words: Sequence[str]) -> str:
    """Words between blanks, or the JSON form if that would not give them back."""
    plain = " ".join(words)
    if tuple(split(plain.strip(BLANKS))) == tuple(words) and not plain.startswith(("[", "--")) and "<<" not in plain:
        return plain
    return _json(words)


def _from(step: ins.From, escape: str) -> str:
    name = f" AS {step.written_name or step.name}" if step.name else ""
    return f"FROM {_flags([('platform', step.platform)], escape)}{_text(step.image)}{name}"


def _arg(step: ins.Arg, escape: str) -> str:
    words = [name if default is None else f"{name}={default}" for name, default in step.arguments]
    return f"ARG {_quotable(words, escape)}"


def _pairs(keyword: str) -> Callable[[ins.Pairs, str], str]:
    def printed(step: ins.Pairs, escape: str) -> str:
        sign = " " if step.legacy else "="
        return f"{keyword} {_quotable((f'{name}{sign}{value}' for name, value in step.pairs), escape)}"

    return printed


def _run(step: ins.Run, escape: str) -> str:
    flags = _flags(
        [
            ("mount", [mount_text(mount) for mount in step.mounts]),
            ("network", step.network),
            ("security", step.security),
        ],
        escape,
    )
    return f"RUN {flags}{_command(step.args, step.shell_form)}{_documents(step.heredocs)}"


def _transfer(step: ins.Transfer, escape: str) -> str:
    flags = _flags(
        [
            ("from", step.source_stage), ("chown", step.chown), ("chmod", step.chmod), ("checksum", step.checksum),
            ("link", step.link or None), ("parents", step.parents or None), ("exclude", step.exclude),
            ("keep-git-dir", step.keep_git_dir), ("unpack", step.unpack),
        ],
        escape,
    )  # fmt: skip
    opened = "".join(f"{_opener(document)} " for document in step.heredocs)
    words = " ".join([*step.sources, step.destination]) if opened else _words([*step.sources, step.destination])
    return f"{step.keyword} {flags}{opened}{words}{_documents(step.heredocs)}"


def _healthcheck(step: ins.HealthcheckSetting, escape: str) -> str:
    check = step.check
    kind, *args = check.test or ["NONE"]
    if kind == "NONE":
        return "HEALTHCHECK NONE"
    flags = [
        ("interval", check.interval), ("timeout", check.timeout), ("start-period", check.start_period),
        ("start-interval", check.start_interval),
    ]  # fmt: skip
    words = [(name, duration(value) if value else "") for name, value in flags]
    words.append(("retries", str(check.retries) if check.retries else ""))
    return f"HEALTHCHECK {_flags(words, escape)}CMD {''.join(args) if kind == 'CMD-SHELL' else _json(args)}"


_PRINTERS: dict[type[ins.Instruction], Callable[[Any, str], str]] = {
    ins.From: _from,
    ins.Arg: _arg,
    ins.Env: _pairs("ENV"),
    ins.Label: _pairs("LABEL"),
    ins.Run: _run,
    ins.Cmd: lambda step, escape: f"CMD {_command(step.args, step.shell_form)}",
    ins.Entrypoint: lambda step, escape: f"ENTRYPOINT {_command(step.args, step.shell_form)}",
    ins.Transfer: _transfer,
    ins.Workdir: lambda step, escape: f"WORKDIR {_text(step.path)}",
    ins.User: lambda step, escape: f"USER {_text(step.user)}",
    ins.Expose: lambda step, escape: f"EXPOSE {_text(' '.join(step.ports))}",
    ins.Volume: lambda step, escape: f"VOLUME {_words(step.paths)}",
    ins.Stopsignal: lambda step, escape: f"STOPSIGNAL {_text(step.signal)}",
    ins.HealthcheckSetting: _healthcheck,
    ins.Maintainer: lambda step, escape: f"MAINTAINER {_text(step.author)}",
    ins.Shell: lambda step, escape: f"SHELL {_json(step.args)}",
    ins.Onbuild: lambda step, escape: f"ONBUILD {step.trigger}",
}
