"""--volume, --mount and --tmpfs as the API's binds, mounts and tmpfs options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hooper.cli.errors import BadFlag
from hooper.cli.units import parse_size
from hooper.cli.values import absolute, checked

_TYPES = ("bind", "volume", "tmpfs", "image")
_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
}
_KEYS = {
    "type": "",
    "source": "",
    "target": "",
    "readonly": "",
    "consistency": "",
    "bind-propagation": "bind",
    "bind-nonrecursive": "bind",
    "bind-recursive": "bind",
    "bind-create-src": "bind",
    "volume-nocopy": "volume",
    "volume-driver": "volume",
    "volume-opt": "volume",
    "volume-label": "volume",
    "volume-subpath": "volume",
    "image-subpath": "image",
    "tmpfs-size": "tmpfs",
    "tmpfs-mode": "tmpfs",
}
_EXAMPLE = "--mount type=bind,source=/srv/data,target=/data,readonly"


def volumes(items: Iterable[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The values of --volume: (HostConfig.Binds, anonymous volumes by their target)."""
    binds: list[str] = []
    anonymous: dict[str, dict[str, str]] = {}
    for item in items:
        source, *rest = item.split(":")
        if len(rest) > 2 or not item or (rest and not (source and rest[0])):
            raise BadFlag("--volume", item, "it is not [SOURCE:]TARGET[:OPTIONS]", "--volume /srv/data:/data:ro")
        target = rest[0] if rest else source
        if not target.startswith("/"):
            raise BadFlag("--volume", item, f'the target "{target}" is not absolute', "--volume data:/data")
        if not rest:
            anonymous[target] = {}
            continue
        if source.startswith((".", "~", "/")):
            source = absolute(source)
        binds.append(":".join([source, *rest]))
    return binds, anonymous


def tmpfs(items: Iterable[str]) -> dict[str, str]:
    """The values of --tmpfs: options by target."""
    result = {}
    for item in items:
        target, _, options = item.partition(":")
        if not target.startswith("/"):
            raise BadFlag("--tmpfs", item, f'the target "{target}" is not absolute', "--tmpfs /run:size=64m")
        result[target] = options
    return result


def mounts(items: Iterable[str]) -> list[dict[str, Any]]:
    """The values of --mount as the API's Mounts; BadFlag."""
    return [_mount(item) for item in items]


def _mount(item: str) -> dict[str, Any]:
    fields, several = _fields(item)
    kind = fields.pop("type", "volume")
    if kind not in _TYPES:
        raise BadFlag("--mount", item, f'the type "{kind}" is none of {", ".join(_TYPES)}', _EXAMPLE)
    for key in [*fields, *several]:
        if _KEYS[key] not in ("", kind):
            raise BadFlag("--mount", item, f"{key} does not go with type={kind}", _EXAMPLE)
    if "target" not in fields:
        raise BadFlag("--mount", item, "the key target is missing", _EXAMPLE)
    mount: dict[str, Any] = {"Type": kind, "Target": fields["target"]}
    if source := fields.get("source"):
        mount["Source"] = absolute(source) if kind == "bind" else source
    elif kind in ("bind", "image"):
        raise BadFlag("--mount", item, f"type={kind} needs the key source", _EXAMPLE)
    if "readonly" in fields:
        mount["ReadOnly"] = _boolean(item, "readonly", fields["readonly"])
    if "consistency" in fields:
        mount["Consistency"] = fields["consistency"]
    options = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image}[kind](item, fields, several)
    if options:
        mount[f"{kind.capitalize()}Options"] = options
    return mount


def _fields(item: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The keys that come once, and volume-opt and volume-label, which may come again."""
    import csv

    single: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for part in next(csv.reader([item]), []):
        key, equals, value = part.partition("=")
        key = _ALIASES.get(key.strip().lower(), key.strip().lower())
        if key not in _KEYS:
            raise BadFlag("--mount", item, f'there is no key "{key}"', _EXAMPLE)
        if not equals and key not in ("readonly", "volume-nocopy", "bind-nonrecursive", "bind-create-src"):
            raise BadFlag("--mount", item, f"the key {key} has no value", _EXAMPLE)
        if key in ("volume-opt", "volume-label"):
            several.setdefault(key, []).append(value)
        else:
            single[key] = value if equals else "true"
    return single, several


def _bind(item: str, fields: dict[str, str], _several: dict[str, list[str]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "bind-propagation" in fields:
        options["Propagation"] = fields["bind-propagation"]
    if "bind-nonrecursive" in fields:
        options["NonRecursive"] = _boolean(item, "bind-nonrecursive", fields["bind-nonrecursive"])
    if "bind-create-src" in fields:
        options["CreateMountpoint"] = _boolean(item, "bind-create-src", fields["bind-create-src"])
    recursive = fields.get("bind-recursive", "enabled")
    if recursive not in ("enabled", "disabled", "writable", "readonly"):
        raise BadFlag("--mount", item, f'bind-recursive="{recursive}" is none of enabled, disabled, writable, readonly')
    key = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
    return options | ({key[recursive]: True} if recursive in key else {})


def _volume(item: str, fields: dict[str, str], several: dict[str, list[str]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "volume-nocopy" in fields:
        options["NoCopy"] = _boolean(item, "volume-nocopy", fields["volume-nocopy"])
    if "volume-subpath" in fields:
        options["Subpath"] = fields["volume-subpath"]
    if "volume-label" in several:
        options["Labels"] = dict(text.partition("=")[::2] for text in several["volume-label"])
    if "volume-driver" in fields or "volume-opt" in several:
        driver = {"Name": fields.get("volume-driver", "local")}
        chosen = dict(text.partition("=")[::2] for text in several.get("volume-opt", []))
        options["DriverConfig"] = {**driver, "Options": chosen}
    return options


def _image(_item: str, fields: dict[str, str], _several: dict[str, list[str]]) -> dict[str, Any]:
    return {"Subpath": fields["image-subpath"]} if "image-subpath" in fields else {}


def _tmpfs(item: str, fields: dict[str, str], _several: dict[str, list[str]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "tmpfs-size" in fields:
        options["SizeBytes"] = checked(
            "--mount", fields["tmpfs-size"], parse_size, "type=tmpfs,target=/x,tmpfs-size=64m"
        )
    if "tmpfs-mode" in fields:
        try:
            options["Mode"] = int(fields["tmpfs-mode"], 8)
        except ValueError:
            raise BadFlag("--mount", item, "tmpfs-mode is not an octal number", "--mount …,tmpfs-mode=1777") from None
    return options


def _boolean(item: str, key: str, text: str) -> bool:
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise BadFlag("--mount", item, f'{key}="{text}" is neither true nor false', _EXAMPLE)
