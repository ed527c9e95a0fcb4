"""The configuration of a host: defaults, then files, then the environment, then flags.

Files are TOML: `/etc/hooper/config.toml` and `/etc/hooper/conf.d/*.toml` (in order of name) for root, the
same below the user's configuration directory otherwise. A section a kind of driver names what is
chosen; a table below it holds that driver's own settings, which the driver's own struct checks.

    [daemon]
    data_root = "/srv/hooper"
    [storage]
    driver = "vfs"
    [network.bridge]
    subnet = "10.20.0.0/16"
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hooper.api.errors import InvalidArgument
from hooper.api.specs import Kind


@dataclass(frozen=True)
class Setting:
    """One value and where it came from."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True)
class Key:
    default: Any
    help: str

    @property
    def type(self) -> type:
        return type(self.default)


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _directory(kind: str) -> str:
    if os.geteuid() == 0:
        return {"data": "/var/lib/hooper", "exec": "/run/hooper", "config": "/etc/hooper"}[kind]
    import platformdirs

    places = platformdirs.PlatformDirs("hooper", appauthor=False)
    return {"data": places.user_data_dir, "exec": places.user_runtime_dir, "config": places.user_config_dir}[kind]


def default_socket() -> str:
    """The address that daemon and client use where none is given."""
    return f"unix://{_directory('exec')}/hooper.sock"


def known_keys() -> dict[str, Key]:
    """Every key that the core itself reads. Drivers add `<kind>.<driver>.*`."""
    keys = {
        "daemon.hosts": Key([default_socket()], "addresses to listen on"),
        "daemon.data_root": Key(_directory("data"), "images, containers, volumes"),
        "daemon.exec_root": Key(_directory("exec"), "sockets and run-time state"),
        "daemon.group": Key("hooper", "group that may use the unix socket"),
        "daemon.log_level": Key("info", "debug, info, warning or error"),
        "daemon.experimental": Key(False, "whether Docker's clients offer what is experimental there: build --squash"),
        "log.options": Key(dict[str, Any](), "log options of containers whose driver is log.driver"),
        "plugins.disabled": Key(list[str](), "plugins that are not loaded, by entry point name"),
        "network.default_address_pools": Key(
            list[str](), "where networks without --subnet are put, each SUBNET:LENGTH; none: Docker's"
        ),
        "builder.cache_size": Key("", "what the build cache may take, as 10GB; none: a tenth of the disk, or 2GB"),
        "builder.cache_age": Key("30d", "how long the build cache keeps what no build uses, as 720h; 0: for ever"),
        "builder.context_limit": Key(
            "", "the most that a build's context or download may hold, as 2GB; none: no bound"
        ),
        "registry.hosts": Key(dict[str, str](), "registry driver by registry host"),
        "registry.search": Key(
            list[str](), "where names without a registry are looked for, in order, each HOST[/PREFIX]; none: docker.io"
        ),
        "registry.short_names": Key("first", "of such a name: the first registry that has it, or unique"),
    }
    for kind in Kind:
        if kind in (Kind.FRONTEND, Kind.SUBSCRIBER):
            keys[f"{kind}.enabled"] = Key(["auto"], f"{kind} plugins that run; auto: all that can")
        elif kind is Kind.POLICY:
            keys["policy.enabled"] = Key(list[str](), "image policies, which must all agree before an image is used")
        else:
            keys[f"{kind}.driver"] = Key("auto", f"the {kind} driver; auto: the first that can work here")
    return keys


@dataclass
class Config:
    """Settings by dotted key, and the tables of drivers."""

    settings: dict[str, Setting]
    tables: dict[tuple[str, str], dict[str, Setting]] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.settings[key].value

    def driver_table(self, kind: Kind, driver: str) -> dict[str, Any]:
        """The driver's own settings, as written."""
        return {key: setting.value for key, setting in self.tables.get((kind, driver), {}).items()}

    def explain(self) -> list[tuple[str, str, str]]:
        """(key, value, where it came from) of everything, in order of key."""
        rows = [*self.settings.values(), *(s for table in self.tables.values() for s in table.values())]
        return sorted((row.key, _shown(row.value), row.source) for row in rows)


def _shown(value: Any) -> str:
    import json

    return json.dumps(value)


def load(
    file: Path | None = None, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Config:
    """Reads everything. `file` takes the place of the host's own files.

    InvalidArgument names the file and the key that is wrong, and the nearest right one.
    """
    keys = known_keys()
    config = Config({name: Setting(name, key.default, "default") for name, key in keys.items()})
    for path in [file] if file else _files():
        _merge(config, keys, _read(path, required=file is not None), str(path))
    _merge_environment(config, keys, os.environ if environment is None else environment)
    for name, value in (flags or {}).items():
        _set(config, keys, name, value, "flag")
    return config


def _files() -> Iterable[Path]:
    base = Path(_directory("config"))
    return [base / "config.toml", *sorted((base / "conf.d").glob("*.toml"))]


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        if required:
            raise InvalidArgument(
                f"cannot read the configuration {path}", "no such file", "Check the path that --config gives."
            ) from None
        return {}
    except OSError as error:
        raise InvalidArgument(f"cannot read the configuration {path}", error.strerror or str(error)) from error
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path} is not TOML", str(error), "Mend the line that is named.") from error


def _merge(config: Config, keys: Mapping[str, Key], content: Mapping[str, Any], source: str) -> None:
    for section, table in content.items():
        if not isinstance(table, dict):
            raise _unknown(section, keys, source)
        for name, value in table.items():
            if isinstance(value, dict) and f"{section}.{name}" not in keys and section in set(Kind):
                target = config.tables.setdefault((section, name), {})
                target |= {key: Setting(f"{section}.{name}.{key}", v, source) for key, v in value.items()}
            else:
                _set(config, keys, f"{section}.{name}", value, source)


def _merge_environment(config: Config, keys: Mapping[str, Key], environment: Mapping[str, str]) -> None:
    for name, key in keys.items():
        variable = "HOOPER_" + name.replace(".", "_").upper()
        if variable not in environment or isinstance(key.default, dict):
            continue
        text = environment[variable]
        value: Any = text.split(",") if isinstance(key.default, list) else text
        if isinstance(key.default, bool):
            if text.lower() not in _BOOLEANS:
                raise InvalidArgument(f"{variable}={text}", "it is neither true nor false", "Write true or false.")
            value = _BOOLEANS[text.lower()]
        elif isinstance(key.default, int):
            if not text.isdigit():
                raise InvalidArgument(f"{variable}={text}", "it is not a whole number", "Give digits only.")
            value = int(text)
        _set(config, keys, name, value, variable)


def _set(config: Config, keys: Mapping[str, Key], name: str, value: Any, source: str) -> None:
    key = keys.get(name)
    if key is None:
        raise _unknown(name, keys, source)
    if type(value) is not key.type:
        raise InvalidArgument(
            f'configuration key "{name}" in {source}',
            f"{value!r} is a {type(value).__name__}, not a {key.type.__name__}",
            f"It means: {key.help}. For example: {_shown(key.default)}.",
        )
    config.settings[name] = Setting(name, value, source)


def _unknown(name: str, keys: Iterable[str], source: str) -> InvalidArgument:
    near = difflib.get_close_matches(name, list(keys), n=1, cutoff=0.5)
    return InvalidArgument(
        f'unknown configuration key "{name}" in {source}',
        remedy=f'Did you mean "{near[0]}"?' if near else "`hooper config show` lists the keys.",
    )
