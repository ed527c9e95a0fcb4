"""Secrets of a build's client, as files in memory and as variables. None of their content is ever told or stored."""

from __future__ import annotations

import os

import anyio

from hooper.api.build_graph import SecretMount
from hooper.api.build_session import BuildSession
from hooper.api.errors import InvalidArgument, NotFound

MOST = 500 * 1024
"""Bytes, as in BuildKit."""


async def obtain(session: BuildSession, mount: SecretMount) -> bytes | None:
    """The content; None if the client has it not and it is not required, else NotFound. InvalidArgument: too big."""
    try:
        connection = await session.open("secret", mount.id)
    except NotFound as error:
        if not mount.required:
            return None
        why = f"not found: {error.why}" if error.why else "not found"
        remedy = f"Give it to the build: --secret id={mount.id},src=FILE"
        raise NotFound(f"secret {mount.id}", why, remedy) from error
    content = bytearray()
    with connection:
        while True:
            await anyio.wait_readable(connection)
            piece = connection.recv(1 << 16)
            if not piece:
                return bytes(content)
            content += piece
            if len(content) > MOST:
                raise InvalidArgument(
                    f"secret {mount.id}: too big", f"{MOST} bytes are the most", "Put what is big into a context."
                )


def as_variable(mount: SecretMount, content: bytes) -> str:
    """InvalidArgument if no variable can hold it."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        # Without a cause: an error of the decoder would show a piece of it.
        raise InvalidArgument(
            f"secret {mount.id}: cannot be the variable {mount.env}",
            "it is not UTF-8 text without NUL bytes",
            "Mount it as a file: leave env= away.",
        ) from None
    return text


def write(path: str, mount: SecretMount, content: bytes) -> None:
    """Makes the file, which nobody may read before it has its owner."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        os.fchown(fd, mount.uid, mount.gid)
        os.fchmod(fd, mount.mode & 0o777)
