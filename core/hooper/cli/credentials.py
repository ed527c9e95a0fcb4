"""Credentials of registries, kept where docker keeps them: ~/.docker/config.json and its helpers.

A set of credentials is a mapping of the API's AuthConfig: username, password or identitytoken, serveraddress.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hooper.api.errors import InvalidArgument, Unavailable

DOCKER_HUB = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"
Credentials = dict[str, str]


def config_path() -> Path:
    """The file; DOCKER_CONFIG names another directory."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def server_key(host: str) -> str:
    """The key under which a registry's credentials are kept."""
    return DOCKER_HUB if host in ("", "docker.io", "index.docker.io", "registry-1.docker.io") else host


def registry_auth(host: str) -> dict[str, str]:
    """The header X-Registry-Auth for one registry; empty if nothing is known of it."""
    credentials = load(host)
    return {"X-Registry-Auth": encode(credentials)} if credentials else {}


def all_auths() -> dict[str, str]:
    """The header X-Registry-Config for a build: what is known of every registry; empty if nothing is."""
    found = everything()
    return {"X-Registry-Config": encode(found)} if found else {}


def everything() -> dict[str, Credentials]:
    """What is known of every registry, by its key."""
    config = _read()
    keys = {*config.get("auths", {}), *config.get("credHelpers", {})}
    if store := config.get("credsStore"):
        keys |= _listed(str(store))
    return {key: credentials for key in sorted(keys) if (credentials := _of_key(config, key))}


def encode(value: Mapping[str, Any]) -> str:
    """JSON in base64url, as the headers have it."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def load(host: str) -> Credentials | None:
    """The credentials for `host`, None if there are none."""
    return _of_key(_read(), server_key(host))


def store(host: str, credentials: Credentials) -> str:
    """Keeps credentials for `host`; where they are now, for the user."""
    config, key = _read(), server_key(host)
    if helper := _helper(config, key):
        secret = credentials.get("identitytoken") or credentials.get("password", "")
        user = _TOKEN_USER if credentials.get("identitytoken") else credentials.get("username", "")
        _ask_helper(helper, "store", json.dumps({"ServerURL": key, "Username": user, "Secret": secret}))
        config.setdefault("auths", {})[key] = {}
        _write(config)
        return f"the credential helper {helper}"
    pair = f"{credentials.get('username', '')}:{credentials.get('password', '')}"
    entry = {"auth": base64.b64encode(pair.encode()).decode()}
    if token := credentials.get("identitytoken"):
        entry["identitytoken"] = token
    config.setdefault("auths", {})[key] = entry
    _write(config)
    return str(config_path())


def erase(host: str) -> bool:
    """Forgets the credentials for `host`; False if there were none."""
    config, key = _read(), server_key(host)
    known = False
    if helper := _helper(config, key):
        known = bool(_ask_helper(helper, "get", key))
        _ask_helper(helper, "erase", key)
    known |= key in config.get("auths", {})
    if config.get("auths", {}).pop(key, None) is not None:
        _write(config)
    return known


def _of_key(config: Mapping[str, Any], key: str) -> Credentials | None:
    if helper := _helper(config, key):
        answer = _ask_helper(helper, "get", key)
        return _from_helper(key, _parsed(helper, answer)) if answer else None
    entry = _entry(config.get("auths", {}), key)
    if not entry:
        return None
    credentials = {"serveraddress": key}
    if entry.get("identitytoken"):
        credentials["identitytoken"] = entry["identitytoken"]
    if entry.get("auth"):
        user, _, password = _decoded(key, entry["auth"]).partition(":")
        credentials |= {"username": user, "password": password.rstrip("\0")}
    elif "username" in entry:
        credentials |= {"username": entry["username"], "password": entry.get("password", "")}
    return credentials


def _entry(auths: Mapping[str, Any], key: str) -> Any:
    """What is kept for a registry, also under an address as old versions wrote it: https://HOST/v1/."""
    if auths.get(key):
        return auths[key]
    host = _hostname(key)
    return next((entry for known, entry in auths.items() if entry and _hostname(known) == host), None)


def _hostname(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _decoded(key: str, auth: str) -> str:
    try:
        return base64.b64decode(auth, validate=True).decode("utf-8", "replace")
    except ValueError as error:
        raise InvalidArgument(
            f"cannot use the credentials for {key} in {config_path()}", str(error), f"Log in again: hooper login {key}"
        ) from error


def _listed(store: str) -> set[str]:
    """The registries that a credential store knows."""
    answer = _ask_helper(store, "list", "")
    return set(_parsed(store, answer)) if answer else set()


def _parsed(helper: str, answer: str) -> dict[str, str]:
    try:
        found = json.loads(answer)
    except ValueError as error:
        raise Unavailable(f"the credential helper docker-credential-{helper} gave no JSON", str(error)) from error
    return found if isinstance(found, dict) else {}


def _from_helper(key: str, answer: Mapping[str, str]) -> Credentials:
    if answer.get("Username") == _TOKEN_USER:
        return {"serveraddress": key, "identitytoken": answer.get("Secret", "")}
    return {"serveraddress": key, "username": answer.get("Username", ""), "password": answer.get("Secret", "")}


def _helper(config: Mapping[str, Any], key: str) -> str:
    return str(config.get("credHelpers", {}).get(key) or config.get("credsStore") or "")


def _ask_helper(helper: str, verb: str, text: str) -> str:
    """What `docker-credential-HELPER VERB` answers; empty if it has nothing."""
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, verb], input=text, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unavailable(
            f"cannot run the credential helper {program}",
            error.strerror or str(error),
            f"Install it, or take credsStore and credHelpers out of {config_path()}.",
        ) from error
    if done.returncode == 0:
        return done.stdout
    message = (done.stdout + done.stderr).strip()
    if "not found" in message.lower():
        return ""
    raise Unavailable(f"the credential helper {program} failed at {verb}", message)


def _read() -> dict[str, Any]:
    path = config_path()
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"cannot use {path}", str(error), "Mend or remove the file.") from error
    return content if isinstance(content, dict) else {}


def _write(config: Mapping[str, Any]) -> None:
    path = config_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(config, indent="\t"))
    temporary.replace(path)
