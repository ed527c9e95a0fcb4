"""A program of its own: hands connections and datagrams on, from sockets of the host to a container.

    python -I -S relay_main.py CONTROL LIFE [FD/PROTOCOL/ADDRESS/PORT]…

It is for what the packet filter cannot translate: connections to ::1, and IPv6 to containers without it. CONTROL is
a descriptor of a datagram socket: whatever comes there ends the program. So does the end of the stream LIFE,
whose other side the container's monitor keeps open as long as the container lives. The program goes to the
background as soon as it serves. It imports nothing but the standard library, to be small and quick.
"""

import os
import select
import socket
import sys
import threading

_CHUNK = 1 << 16
_CONNECT_S = 10.0
_IDLE_S = 90.0
"""A UDP client that neither sends nor is answered for so long is forgotten."""
_NOBODY = 65534


def _socket_for(target: tuple[str, int], kind: int) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, kind)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(_CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # Either side is gone: neither end has anything more to say or to hear.
        for one in (source, sink):
            _shut(one)


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _serve_connection(client: socket.socket, target: tuple[str, int]) -> None:
    with client, _socket_for(target, socket.SOCK_STREAM) as server:
        server.settimeout(_CONNECT_S)
        try:
            server.connect(target)
        except OSError:
            return
        server.settimeout(None)
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()


def _serve_stream(listening: socket.socket, target: tuple[str, int]) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except ConnectionError:
            continue
        threading.Thread(target=_serve_connection, args=(client, target), daemon=True).start()


class _Datagrams:
    """Each client has a socket towards the container, whose answers go back to it."""

    def __init__(self, bound: socket.socket, target: tuple[str, int]) -> None:
        self._bound, self._target = bound, target
        self._clients: dict[tuple[object, ...], socket.socket] = {}

    def serve(self) -> None:
        while True:
            try:
                data, client = self._bound.recvfrom(_CHUNK)
                self._socket_of(client).send(data)
            except OSError:
                # A refused datagram is told by the next call; UDP may lose it.
                continue

    def _socket_of(self, client: tuple[object, ...]) -> socket.socket:
        found = self._clients.get(client)
        if found is None:
            found = _socket_for(self._target, socket.SOCK_DGRAM)
            found.connect(self._target)
            self._clients[client] = found
            threading.Thread(target=self._answer, args=(client, found), daemon=True).start()
        return found

    def _answer(self, client: tuple[object, ...], server: socket.socket) -> None:
        while select.select([server], [], [], _IDLE_S)[0]:
            try:
                self._bound.sendto(server.recv(_CHUNK), client)
            except OSError:
                continue
        del self._clients[client]
        server.close()


def main(control: int, life: int, specs: list[str]) -> None:
    threading.stack_size(1 << 18)
    serving = []
    for spec in specs:
        fd, protocol, address, port = spec.split("/")
        sock, target = socket.socket(fileno=int(fd)), (address, int(port))
        if protocol == "tcp":
            sock.listen(128)
            serving.append(threading.Thread(target=_serve_stream, args=(sock, target), daemon=True))
        else:
            serving.append(threading.Thread(target=_Datagrams(sock, target).serve, daemon=True))
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    for thread in serving:
        thread.start()
    select.select([control, life], [], [])
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
