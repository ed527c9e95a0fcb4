"""Flags of an instruction: what each allows, and what to say of those that this builder does not carry out."""

from __future__ import annotations

from collections.abc import Mapping

from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.words import split_words

_UNSUPPORTED: Mapping[tuple[str, str], str] = {
    ("RUN", "mount"): "Copy the files in with COPY, from a stage of their own if they must not stay in the image.",
    ("RUN", "security"): "Delete the flag: commands run with the engine's default confinement.",
    ("RUN", "device"): "Delete the flag: commands of a build are given no devices.",
    ("COPY", "parents"): "Name the destination directory of each source in a COPY of its own.",
    ("COPY", "exclude"): "List the files in .dockerignore.",
    ("ADD", "exclude"): "List the files in .dockerignore.",
    ("ADD", "keep-git-dir"): "Clone the repository outside and COPY it.",
    ("ADD", "unpack"): "COPY keeps an archive as it is; ADD unpacks a local one.",
}
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "FROM": ("platform",),
    "RUN": ("network",),
    "COPY": ("from", "chown", "chmod", "link"),
    "ADD": ("chown", "chmod", "link", "checksum"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
_BOOLEAN = ("link",)


def take_flags(keyword: str, text: str, escape: str) -> tuple[dict[str, str], str]:
    """The flags at the begin of an instruction's text, and the text without them.

    Raises Fault for an unknown, doubled, unsupported or incomplete one.
    """
    flags: dict[str, str] = {}
    while text.startswith("--"):
        word = split_words(text, escape)[0]
        text = text[len(word) :].lstrip()
        if word == "--":
            break
        name, equals, value = word[2:].partition("=")
        _check(keyword, name)
        if name in flags:
            raise Fault(f"duplicate flag specified: {name}", "Give it once.")
        if not equals and name not in _BOOLEAN:
            raise Fault(f"missing a value on flag: {name}", f"Write --{name}=VALUE.")
        flags[name] = value if equals else "true"
    return flags, text


def _check(keyword: str, name: str) -> None:
    known = _KNOWN.get(keyword, ())
    if name in known:
        return
    if remedy := _UNSUPPORTED.get((keyword, name)):
        raise Fault(f"{keyword} --{name} is not supported by this builder", remedy)
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    if near:
        remedy = f"Did you mean --{near[0]}?"
    elif known:
        remedy = f"{keyword} has {', '.join(f'--{flag}' for flag in known)}."
    else:
        remedy = f"{keyword} has no flags."
    raise Fault(f"unknown flag: {name}", remedy)
