"""--output, --push and --load of `hooper build`: what is to become of a build, as Docker's buildx reads it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hooper.cli.build_flags import attributes, fields
from hooper.cli.errors import BadFlag

STDOUT = "-"
_OUTPUTS = ("image", "registry", "local", "tar", "oci", "docker")
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


class Output(NamedTuple):
    """One --output. `dest` is a path of the client's, "-" for stdout, or "" for what stays with the daemon."""

    type: str
    attrs: dict[str, str]
    dest: str = ""

    @property
    def unpacked(self) -> bool:
        """Whether `dest` becomes a directory, not a file."""
        return self.type == "local" or (self.type in ("oci", "docker") and self.attrs.get("tar") == "false")

    @property
    def is_image(self) -> bool:
        """Whether it becomes an image of the daemon's store."""
        return self.type == "image"


def outputs(items: Iterable[str], tags: Sequence[str], *, push: bool, load: bool) -> list[Output]:
    """What --output, --push and --load ask for in all; [] is one image in the daemon's store."""
    found = [_output(item) for item in items]
    images = [one for one in found if one.is_image]
    if push and found and not images:
        raise BadFlag("--push", found[0].type, "this output cannot be pushed", "--output type=image,push=true")
    if push:
        found = [_pushed(one) for one in found] or [Output("image", {"push": "true"})]
    elif load and not images:
        found.append(Output("image", {}))
    if sum(one.dest == STDOUT for one in found) > 1:
        raise BadFlag("--output", STDOUT, "only one output fits stdout", "--output type=tar,dest=out.tar")
    for one in found:
        if one.attrs.get("push") == "true" and not (tags or one.attrs.get("name")):
            raise BadFlag("--push", "true", "an image without a name cannot be pushed", "--push --tag registry/name")
    return found


def _pushed(one: Output) -> Output:
    return one._replace(attrs={**one.attrs, "push": "true"}) if one.is_image else one


def _output(text: str) -> Output:
    example = "--output type=local,dest=out"
    parts = fields("--output", text, example)
    if len(parts) == 1 and "=" not in parts[0]:
        return _placed(text, *(("tar", {}) if parts[0] == STDOUT else ("local", {"dest": parts[0]})))
    attrs = attributes("--output", text, parts, example)
    kind = attrs.pop("type", "").lower()
    if not kind:
        raise BadFlag("--output", text, "the type is missing", example)
    if kind not in _OUTPUTS:
        raise BadFlag("--output", text, f'"{kind}" is none of {", ".join(_OUTPUTS)}', example)
    for name in ("push", "tar"):
        if name in attrs:
            attrs[name] = _boolean("--output", text, name, attrs[name])
    if kind == "registry":
        return Output("image", {**attrs, "push": "true"})
    if kind == "image" or (kind == "docker" and not attrs.get("dest")):
        if attrs.get("dest"):
            raise BadFlag(
                "--output", text, "an image stays with the daemon and has no dest", "--output type=oci,dest=F"
            )
        return Output("image", attrs)
    return _placed(text, kind, attrs)


def _placed(text: str, kind: str, attrs: dict[str, str]) -> Output:
    """An output that comes to the client."""
    dest = attrs.pop("dest", "")
    example = f"--output type={kind},dest={'out' if kind == 'local' else 'out.tar'}"
    made = Output(kind, attrs, dest or ("" if kind == "local" else STDOUT))
    if made.unpacked:
        if made.dest in ("", STDOUT):
            raise BadFlag("--output", text, "dest, the directory that it goes to, is missing", example)
        if os.path.exists(dest) and not os.path.isdir(dest):
            raise BadFlag("--output", text, f"{dest} is not a directory", example)
    elif made.dest == STDOUT:
        if os.isatty(1):
            raise BadFlag("--output", text, "an archive is no text for a terminal", example)
    elif os.path.isdir(dest):
        raise BadFlag("--output", text, f"{dest} is a directory", example)
    return made


def _boolean(flag: str, text: str, key: str, value: str) -> str:
    if value.lower() in _TRUE:
        return "true"
    if value.lower() in _FALSE:
        return "false"
    raise BadFlag(flag, text, f'{key} is "{value}", neither true nor false', f"{flag} type=image,push=true")
