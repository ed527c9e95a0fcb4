"""`--use-api-socket`: a container that may talk to its own daemon, and to registries as its user does."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from hooper.api.errors import InvalidArgument
from hooper.cli import credentials
from hooper.client.api import ApiClient

_SOCKET, _DIRECTORY = "/var/run/docker.sock", "run/secrets/docker"


def give_socket(client: ApiClient, body: dict[str, Any]) -> None:
    """Mounts the daemon's socket where clients look for it; InvalidArgument if it is none of this host."""
    if not client.address.local:
        raise InvalidArgument(
            f"--use-api-socket needs a unix socket, and the daemon is at {client.address}",
            remedy="Mount the socket of the other host with --volume.",
        )
    mount = {"Type": "bind", "Source": client.address.path, "Target": _SOCKET}
    body["HostConfig"].setdefault("Mounts", []).append(mount)
    if credentials.everything():
        body["Env"] = [*body.get("Env", ()), f"DOCKER_CONFIG=/{_DIRECTORY}"]


def give_credentials(client: ApiClient, container: str) -> None:
    """Puts what is known of registries into the created container, for its root alone."""
    if known := credentials.everything():
        query, headers = {"path": "/"}, {"Content-Type": "application/x-tar"}
        client.stream("PUT", f"/containers/{container}/archive", query, archive(known), headers).close()


def archive(known: Mapping[str, Mapping[str, str]]) -> bytes:
    """A tar archive with a config.json made of sets of credentials, by registry."""
    auths = {}
    for key, one in known.items():
        pair = f"{one.get('username', '')}:{one.get('password', '')}"
        auths[key] = {"auth": base64.b64encode(pair.encode()).decode()}
        if token := one.get("identitytoken"):
            auths[key]["identitytoken"] = token
    content = json.dumps({"auths": auths}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name in ("run/secrets", _DIRECTORY):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            out.addfile(directory)
        file = tarfile.TarInfo(f"{_DIRECTORY}/config.json")
        file.size, file.mode = len(content), 0o600
        out.addfile(file, io.BytesIO(content))
    return buffer.getvalue()
