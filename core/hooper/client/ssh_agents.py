"""SSH agents for builds: the user's own, by which a build may list keys and have things signed, or one for keys."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from hooper.api.errors import InvalidArgument, Unavailable

_LIST, _SIGN = 11, 13
"""SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST (RFC draft-miller-ssh-agent)."""
_REFUSAL = b"\0\0\0\1\5"
"""A message of one byte, SSH_AGENT_FAILURE."""
_MOST = 256 * 1024


def forward(stream: socket.socket, agent: str) -> None:
    """Answers the requests on `stream` by the agent at the socket `agent`, until either ends.

    What would change or lock the agent is refused: the keys are the user's, whatever a build runs.
    """
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(agent)
        except OSError as error:
            raise Unavailable(f"cannot reach the SSH agent at {agent}", error.strerror or str(error)) from error
        while (request := _message(stream)) is not None:
            if request[4:5] not in (bytes([_LIST]), bytes([_SIGN])):
                stream.sendall(_REFUSAL)
                continue
            peer.sendall(request)
            answer = _message(peer)
            if answer is None:
                return
            stream.sendall(answer)


def _message(source: socket.socket) -> bytes | None:
    """A whole message with its length; None at the end of the stream, or for one that is too long."""
    head = _exactly(source, 4)
    size = int.from_bytes(head or b"", "big")
    if head is None or not 0 < size <= _MOST:
        return None
    body = _exactly(source, size)
    return None if body is None else head + body


def _exactly(source: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)


class KeyAgent:
    """An ssh-agent of its own, that holds the keys of some files for as long as the build takes."""

    def __init__(self, keys: Sequence[str]) -> None:
        """ssh-add asks for a passphrase on the terminal. Unavailable without these programs, InvalidArgument for a
        file that is no key."""
        self._directory = tempfile.mkdtemp(prefix="hooper-ssh-")
        self.socket = os.path.join(self._directory, "agent")
        self._holder: subprocess.Popen[bytes] | None = None
        self._agent = 0
        try:
            self._start(keys)
        except OSError as error:
            self.close()
            why = error.strerror or str(error)
            raise Unavailable("cannot serve SSH keys", why, "Install OpenSSH's ssh-agent and ssh-add.") from error
        except BaseException:
            self.close()
            raise

    def _start(self, keys: Sequence[str]) -> None:
        # ssh-agent ends soon after the program that it was started for, which ends with this one, whatever ends that.
        program = ["sh", "-c", "echo $SSH_AGENT_PID; exec cat"]
        command = ["ssh-agent", "-a", self.socket, *program]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout
        self._agent = int(self._holder.stdout.readline() or 0)
        if not self._agent:
            raise Unavailable("cannot serve SSH keys", "ssh-agent does not start")
        environment = {**os.environ, "SSH_AUTH_SOCK": self.socket}
        for key in keys:
            done = subprocess.run(["ssh-add", "-q", "--", key], env=environment, check=False, stderr=subprocess.PIPE)
            if done.returncode:
                why = done.stderr.decode(errors="replace").strip() or "ssh-add refuses it"
                raise InvalidArgument(f"cannot use the SSH key {key}", why)

    def close(self) -> None:
        """Ends the agent; harmless twice."""
        if self._agent:
            with suppress(ProcessLookupError):  # somebody else has ended it
                os.kill(self._agent, signal.SIGTERM)
            self._agent = 0
        if self._holder:
            self._holder.communicate()
            self._holder = None
        shutil.rmtree(self._directory, ignore_errors=True)
