"""Starting and ending relays (see `relay_main`): one process for each endpoint that needs one.

A relay outlives the daemon. It ends with its container, whose monitor holds the other side of its stream, and
when its endpoint leaves: then a datagram to its socket in our volatile directory tells it so.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hooper.api.network import Endpoint, Network
from hooper_net_bridge.ports import Relayed

_PROGRAM = Path(__file__).with_name("relay_main.py")
_SUFFIX = ".relay"


class Relays:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self, network: Network, endpoint: Endpoint, relayed: Sequence[Relayed]) -> int:
        """Returns a descriptor, the caller's: when its last copy is closed, the relay ends. Raises OSError."""
        path = self._path(network, endpoint)
        path.unlink(missing_ok=True)
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
                with _short(path) as short:
                    control.bind(short)
                specs = [f"{one.held.fileno()}/{one.protocol}/{one.address}/{one.port}" for one in relayed]
                subprocess.run(
                    [sys.executable, "-I", "-S", str(_PROGRAM), str(control.fileno()), str(ours), *specs],
                    pass_fds=[control.fileno(), ours, *(one.held.fileno() for one in relayed)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
        except subprocess.CalledProcessError as error:
            os.close(theirs)
            path.unlink(missing_ok=True)
            raise OSError(0, f"the relay ended with {error.returncode}") from error
        except BaseException:
            os.close(theirs)
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(ours)
        return theirs

    def stop(self, network: Network, endpoint: Endpoint) -> None:
        """Harmless if there is none."""
        _end(self._path(network, endpoint))

    def stop_others(self, network: Network, known: Collection[Endpoint]) -> None:
        """Ends the network's relays that belong to none of these endpoints."""
        kept = {self._path(network, endpoint) for endpoint in known}
        for path in self._directory.glob(f"{network.id[:8]}-*{_SUFFIX}"):
            if path not in kept:
                _end(path)

    def _path(self, network: Network, endpoint: Endpoint) -> Path:
        return self._directory / f"{network.id[:8]}-{endpoint.id[:10]}{_SUFFIX}"


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same file by a name that fits a socket's address, however long the directory's is (unix(7): 108 bytes)."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _end(path: Path) -> None:
    unheard = suppress(FileNotFoundError, ConnectionRefusedError)
    with unheard, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, _short(path) as short:
        sock.sendto(b"end", short)
    path.unlink(missing_ok=True)
