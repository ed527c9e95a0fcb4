"""Puts table, listeners and forwarder together: what is asked in each container, and what it is told."""

from __future__ import annotations

import os

from hooper.dns import answers
from hooper.dns.answers import Question
from hooper.dns.forwarding import Exchange, Forwarder
from hooper.dns.listening import Listener, Reply
from hooper.dns.protocol import Served
from hooper.dns.table import Table
from hooper.runtime.loop import Loop

FORWARDED_MAX = 256
"""Questions of one container that wait for servers outside at the same time; more of them fail."""


class Clients:
    """The containers that are served."""

    def __init__(self, loop: Loop, forwarder: Forwarder) -> None:
        self._loop, self._forwarder = loop, forwarder
        self.table = Table()
        self._listeners: dict[str, Listener] = {}
        self._forwarded: dict[str, set[Exchange]] = {}

    def serve(self, served: Served, netns: int | None) -> bool:
        """Takes the descriptor over. False if there is none and the container is not known. Raises OSError."""
        listener = self._listeners.get(served.id)
        if netns is not None and listener is not None and listener.is_of(netns):
            os.close(netns)
            netns = None
        if netns is not None:
            self.drop(served.id)
            self._listen(served.id, netns)
        elif listener is None:
            return False
        self.table.put(served)
        return True

    def _listen(self, container_id: str, netns: int) -> None:
        def asked(data: bytes, tcp: bool, reply: Reply) -> None:
            self._asked(container_id, data, tcp, reply)

        try:
            self._listeners[container_id] = Listener(self._loop, netns, asked)
        except BaseException:
            os.close(netns)
            raise
        self._forwarded[container_id] = set()

    def drop(self, container_id: str) -> None:
        """Harmless if it is not served."""
        self.table.remove(container_id)
        for exchange in self._forwarded.pop(container_id, ()):
            exchange.cancel()
        listener = self._listeners.pop(container_id, None)
        if listener is not None:
            listener.close()

    def namespaces(self) -> dict[str, tuple[int, int]]:
        """(device, inode) of each container's network namespace."""
        found = {}
        for container_id, listener in self._listeners.items():
            status = os.fstat(listener.netns)
            found[container_id] = status.st_dev, status.st_ino
        return found

    def _asked(self, container_id: str, data: bytes, tcp: bool, reply: Reply) -> None:
        question = answers.read(data, tcp=tcp)
        if isinstance(question, bytes):
            reply(question)
        elif question is not None:
            answer = answers.answer(question, self.table, container_id)
            if answer is not None:
                reply(answer)
            else:
                self._ask_outside(container_id, question, data, tcp, reply)

    def _ask_outside(self, container_id: str, question: Question, data: bytes, tcp: bool, reply: Reply) -> None:
        served, waiting = self.table.get(container_id), self._forwarded[container_id]
        if served is None or len(waiting) >= FORWARDED_MAX or not (served.servers or served.outside):
            reply(question.failure("SERVFAIL"))
            return
        if served.ndots and question.is_bare_host:
            reply(question.failure("NXDOMAIN"))
            return

        def answered(answer: bytes | None) -> None:
            waiting.discard(exchange)
            if answer is None:
                reply(question.failure("SERVFAIL"))
            else:
                reply(answer if len(answer) <= question.limit else question.truncated())

        netns = self._listeners[container_id].netns
        exchange = self._forwarder.ask(data, answered, tcp=tcp, servers=served.servers, netns=netns)
        waiting.add(exchange)
