"""RUN --mount: its options as written, and what they mean once variables are expanded.

(Dockerfile reference: RUN --mount.)
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from hooper_builder_dockerfile.faults import Fault, nearest, nearest_or_all

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")

_KEYS: Mapping[str, str] = {
    "type": "type", "from": "from_", "source": "source", "src": "source", "target": "target", "dst": "target",
    "destination": "target", "readonly": "readonly", "ro": "readonly", "readwrite": "readwrite", "rw": "readwrite",
    "id": "id", "sharing": "sharing", "required": "required", "size": "size", "mode": "mode", "uid": "uid",
    "gid": "gid", "env": "env",
}  # fmt: skip
"""Each word with the field of `MountFlag` that it sets."""
_BARE = ("readonly", "readwrite", "required")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?\Z", re.IGNORECASE)
_ID_LIMIT = 2**32


@dataclass(frozen=True, kw_only=True)
class MountFlag:
    """The options as they are written, variables unexpanded; None for what is not given.

    `resolve` makes a `Mount` of it, with all rules checked.
    """

    type: str = "bind"
    target: str | None = None
    source: str | None = None
    from_: str | None = None
    """A stage, an image or a named context; never holds a variable."""
    id: str | None = None
    sharing: str | None = None
    mode: str | None = None
    uid: str | None = None
    gid: str | None = None
    required: str | None = None
    """"true" for the bare word, as `readonly` and `readwrite`."""
    env: str | None = None
    size: str | None = None
    readonly: str | None = None
    readwrite: str | None = None
    """Of readonly and readwrite, only the one that was given last is set."""

    def given(self) -> dict[str, str]:
        """The options that are there, by their words."""
        values = {option.name.rstrip("_"): getattr(self, option.name) for option in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A mount whose options have been understood. "" and None are what is not given."""

    type: str
    """bind, cache, tmpfs, secret or ssh."""
    target: str = ""
    """Of bind, cache and tmpfs: relative to the working directory, "" is that itself. Never "/"."""
    source: str = ""
    from_: str = ""
    id: str = ""
    sharing: str = ""
    """"", shared, private or locked."""
    read_only: bool = True
    required: bool = False
    env: str | None = None
    """Name of the variable for a secret; "" is the default name."""
    size: int = 0
    """Bytes; 0 has no limit of its own."""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


# --- from text ----------------------------------------------------------------------------------------


def parse_mount(text: str) -> MountFlag:
    """The value of one --mount. Fault for what is no option, and for a bad value that holds no variable."""
    found: dict[str, str] = {}
    for word in _fields(text):
        key, equals, value = word.partition("=")
        name = _KEYS.get(key.lower())
        if name is None:
            near = nearest(key.lower(), tuple(_KEYS))
            remedy = f"Did you mean {near}?" if near else f"There are: {', '.join(_KEYS)}."
            raise Fault(f"unexpected key '{key}' in '{word}'", remedy, key)
        if not equals and name not in _BARE:
            raise Fault(f"invalid field '{word}' must be a key=value pair", f"Write {key}=VALUE.", word)
        _set(found, name, value if equals else "true")
    flag = MountFlag(**found)
    if "$" in (flag.from_ or "").rstrip("$"):
        raise Fault(
            "'from' doesn't support variable expansion, define alias stage instead",
            "Name a stage for it: `ARG x`, `FROM ${x} AS name`, then from=name.",
            flag.from_ or "",
        )
    if "$" not in text:
        resolve(flag, lambda value: value)
    return flag


def _fields(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise Fault(
            f"failed to parse csv mounts: {error}", "Quote a whole option: --mount='\"target=/a,b\"'."
        ) from error
    return rows[0] if rows else []


def _set(found: dict[str, str], name: str, value: str) -> None:
    found[name] = value
    if name in ("readonly", "readwrite"):
        found.pop("readwrite" if name == "readonly" else "readonly", None)


def mount_text(flag: MountFlag) -> str:
    """The value of --mount that `parse_mount` makes this flag of."""
    words = [f"{name}={value}" for name, value in flag.given().items()]
    return ",".join('"' + word.replace('"', '""') + '"' if re.search('[,"]', word) else word for word in words)


# --- what it means ------------------------------------------------------------------------------------


def resolve(flag: MountFlag, expand: Callable[[str], str]) -> Mount:
    """Expands the values and checks them. Raises Fault with the cause and the nearest valid word."""
    values = {name: value if name == "from" else expand(value) for name, value in flag.given().items()}
    kind = values["type"].lower()
    if kind not in TYPES:
        raise Fault(f'unsupported mount type "{values["type"]}"', nearest_or_all(kind, TYPES), values["type"])
    sharing = values.get("sharing", "").lower()
    if sharing and sharing not in SHARING:
        raise Fault(f'unsupported sharing value "{values["sharing"]}"', nearest_or_all(sharing, SHARING), sharing)
    _check_allowed(kind, values)
    if values.get("target") and posixpath.normpath(values["target"]).strip("/") == "":
        raise Fault(f'invalid mount target "{values["target"]}"', "Write a path below the root.", values["target"])
    return Mount(
        type=kind,
        target=values.get("target", ""),
        source=values.get("source", ""),
        from_=values.get("from", ""),
        id=values.get("id", ""),
        sharing=sharing,
        read_only=_read_only(kind, values),
        required=_boolean("required", values.get("required", "false")),
        env=values.get("env"),
        size=_size(values["size"]) if "size" in values else 0,
        mode=_number("mode", values, 8),
        uid=_number("uid", values, 10),
        gid=_number("gid", values, 10),
    )


_ONLY: Mapping[str, tuple[str, ...]] = {
    "required": ("secret", "ssh"),
    "size": ("tmpfs",),
    "sharing": ("cache",),
    "mode": ("secret", "ssh", "cache"),
    "uid": ("secret", "ssh", "cache"),
    "gid": ("secret", "ssh", "cache"),
}
"""Options that not all types have."""


def _check_allowed(kind: str, values: Mapping[str, str]) -> None:
    for name, kinds in _ONLY.items():
        if name in values and kind not in kinds:
            raise Fault(
                f"unexpected key '{name}' for mount type '{kind}'", f"It is of type {' or '.join(kinds)}.", name
            )
    if kind == "secret":
        if values.get("from"):
            raise Fault("secret mount should not have a from", "Name the secret with id.", "from")
        if not any(values.get(name) for name in ("source", "target", "id")):
            raise Fault("invalid secret mount. one of source, target required", "Write id=NAME.")
        if values.get("source") and values.get("id"):
            raise Fault("both source and id can't be set", "Write id alone.", "source")
    if kind == "ssh" and values.get("source"):
        raise Fault("ssh does not support source", "Name the agent with id.", "source")


def _read_only(kind: str, values: Mapping[str, str]) -> bool:
    if "readonly" in values:
        return _boolean("readonly", values["readonly"])
    if "readwrite" in values:
        return not _boolean("readwrite", values["readwrite"])
    return kind not in ("cache", "tmpfs")


def _boolean(name: str, value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise Fault(f"invalid value for {name}: {value}", "Write true or false.", value)
    return value in _TRUE


def _number(name: str, values: Mapping[str, str], base: int) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    if not text or len(text) > 16 or text.strip(digits) or int(text, base) >= _ID_LIMIT:
        raise Fault(f"invalid value {text} for {name}", "Write 0755." if base == 8 else "Write a number.", text)
    return int(text, base)


def _size(text: str) -> int:
    found = _SIZE.match(text) if len(text) < 40 else None
    if found is None:
        raise Fault(f"invalid value for size: {text}", "Write a number of bytes, or with k, m or g: size=64m.", text)
    return int(float(found[1]) * 1024 ** "kmgtp".find(found[2].lower()) * 1024) if found[2] else int(float(found[1]))
