"""The sockets of one container, in its network namespace."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from hooper.dns.protocol import ADDRESS
from hooper.dns.streams import ClientStream
from hooper.linux import nftables as nft
from hooper.linux.netlink import NLM_F_EXCL, Message, entered
from hooper.runtime.loop import READ, Loop

TABLE = "hooper_dns"
"""The nftables table in the container's namespace."""

PORT = 53
AT_ONCE = 32
"""Datagrams taken before others have their turn."""
STREAMS_MAX = 32
PAUSE_S = 1.0

Reply = Callable[[bytes], None]
Asked = Callable[[bytes, bool, Reply], None]
"""Takes a message, whether it came over TCP, and where its answer goes."""


class Listener:
    """Answers at port 53 of `ADDRESS`, but listens at another port, to which a rule of the namespace's packet filter
    sends what is for 53: a server in the container may then have port 53 of all its addresses.

    `netns` is a descriptor of the namespace, and now the listener's. Raises OSError; then nothing is left there.
    """

    def __init__(self, loop: Loop, netns: int, asked: Asked) -> None:
        self._loop, self._asked, self.netns = loop, asked, netns
        self._streams: set[ClientStream] = set()
        with entered(netns):
            self._udp, self._tcp = _sockets()
            try:
                _redirect(self._udp.getsockname()[1], self._tcp.getsockname()[1])
            except BaseException:
                self._udp.close()
                self._tcp.close()
                raise
        loop.watch(self._udp.fileno(), READ, self._datagrams)
        self._listen()

    def is_of(self, netns: int) -> bool:
        """The descriptor is one of the same namespace."""
        return os.path.samestat(os.fstat(netns), os.fstat(self.netns))

    def close(self) -> None:
        """Lets the namespace go. The rule there stays, and leads nowhere."""
        for stream in [*self._streams]:
            stream.close()
        for sock in (self._udp, self._tcp):
            self._loop.unwatch(sock.fileno())
            sock.close()
        os.close(self.netns)

    def _listen(self) -> None:
        if self._tcp.fileno() >= 0:
            self._loop.watch(self._tcp.fileno(), READ, self._connections)

    def _datagrams(self, _: int) -> None:
        for _ in range(AT_ONCE):
            try:
                data, sender = self._udp.recvfrom(65536)
            except BlockingIOError:
                return
            self._asked(data, False, lambda answer, sender=sender: self._send(answer, sender))  # type: ignore[misc]

    def _send(self, answer: bytes, sender: tuple[str, int]) -> None:
        # A full socket or one that was closed meanwhile, or a sender that has made its address up: who is
        # still there asks again.
        with suppress(OSError):
            self._udp.sendto(answer, sender)

    def _connections(self, _: int) -> None:
        try:
            connection, _address = self._tcp.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            # No descriptor is left. The connection waits, and would call again at once.
            self._loop.unwatch(self._tcp.fileno())
            self._loop.call_later(PAUSE_S, self._listen)
            return
        if len(self._streams) >= STREAMS_MAX:
            connection.close()
            return
        self._streams.add(ClientStream(self._loop, connection, self._streamed, self._streams.discard))

    def _streamed(self, message: bytes, stream: ClientStream) -> None:
        self._asked(message, True, stream.send)


def _sockets() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP, each at any free port."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        udp.bind((ADDRESS, 0))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            tcp.bind((ADDRESS, 0))
            tcp.listen(STREAMS_MAX)
        except BaseException:
            tcp.close()
            raise
    except BaseException:
        udp.close()
        raise
    return udp, tcp


def _redirect(udp_port: int, tcp_port: int) -> None:
    """Loads the rules into this thread's network namespace, in place of those that an earlier resolver has left."""
    rules, table = _rules(udp_port, tcp_port), nft.add_table(TABLE)
    filter_ = nft.Nftables()
    try:
        filter_.commit([table._replace(flags=table.flags | NLM_F_EXCL), *rules])
    except FileExistsError:
        # To delete a table takes ten milliseconds: not to be done as a matter of course.
        filter_.commit([nft.delete_table(TABLE), table, *rules])
    finally:
        filter_.close()


def _rules(udp_port: int, tcp_port: int) -> list[Message]:
    messages = [nft.add_base_chain(TABLE, "output", "nat", "output", -100)]
    address, first = socket.inet_aton(ADDRESS), nft.REGISTER
    for protocol, port in ((socket.IPPROTO_UDP, udp_port), (socket.IPPROTO_TCP, tcp_port)):
        rule = [nft.meta("nfproto"), nft.equal(bytes([socket.AF_INET]))]
        rule += [nft.network_header(16, 4), nft.equal(address), nft.meta("l4proto"), nft.equal(bytes([protocol]))]
        rule += [nft.transport_header(2, 2), nft.equal(PORT.to_bytes(2, "big"))]
        rule += [nft.load(address, first), nft.load(port.to_bytes(2, "big"), first + 1)]
        rule.append(nft.destination_nat(socket.AF_INET, first, first + 1))
        messages.append(nft.add_rule(TABLE, "output", rule))
    return messages
