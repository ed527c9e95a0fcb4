"""Where docker and hooper keep what belongs to a user, and the little of it that every command needs."""

from __future__ import annotations

import json
import os

from hooper.api.errors import InvalidArgument

DEFAULT = "default"
"""The context of this host's own daemon; it is in no store."""


def config_directory() -> str:
    """~/.docker; DOCKER_CONFIG names another one."""
    return os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")


def settings() -> dict[str, object]:
    """Docker's config.json; empty if there is none, InvalidArgument if it is no JSON."""
    return _read(os.path.join(config_directory(), "config.json"))


def chosen_file() -> str:
    """Where `hooper context use` notes its choice."""
    return os.path.join(config_directory(), "hooper.json")


def chosen_context() -> str:
    """The context that `hooper context use` chose; the default one if none was. InvalidArgument."""
    return str(_read(chosen_file()).get("currentContext") or DEFAULT)


def write_json(path: str, content: object) -> None:
    """Replaces a file in one step; its directory is made if need be."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(temporary, path)


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"cannot use {path}", str(error), "Mend or remove the file.") from error
    return content if isinstance(content, dict) else {}
