"""Our table in the packet filter: kept in step with the networks and ports that are in use."""

from __future__ import annotations

import errno
import threading
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from hooper.linux import nftables as nft
from hooper.linux.netlink import Message
from hooper_net_bridge import ruleset
from hooper_net_bridge.ruleset import Entry

_INET, _IPV4 = 1, 2


class Filter:
    """Each change is one transaction. What has been added is remembered, and put back by the next change
    after somebody else has emptied the packet filter (`nft flush ruleset`)."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._nftables = nft.Nftables()
        self._present: dict[str, list[Entry]] = {}
        self._lock = threading.RLock()

    def open(self) -> None:
        """Makes the table, or renews its rules; published ports of an earlier run stay published."""
        try:
            self._nftables.commit(ruleset.load(self.table))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.EBUSY, errno.EINVAL) or not self._nftables.has_table(self.table):
                raise
            self._nftables.commit([nft.delete_table(self.table), *ruleset.load(self.table)])

    def delete(self) -> None:
        """Removes the table with all that is in it; harmless if there is none."""
        with suppress(FileNotFoundError):
            self._nftables.commit([nft.delete_table(self.table)])

    def close(self) -> None:
        self._nftables.close()

    def add(self, owner: str, entries: Sequence[Entry]) -> None:
        """Puts the entries in, replacing what other data may be under their keys."""
        if not entries:
            return
        with self._lock:
            self._commit(ruleset.add(self.table, entries), entries)
            self._present[owner] = list(entries)

    def _commit(self, messages: list[Message], entries: Sequence[Entry]) -> None:
        try:
            self._nftables.commit(messages)
        except OSError as error:
            if error.errno == errno.ENOENT and not self._nftables.has_table(self.table):
                kept = [entry for listed in self._present.values() for entry in listed]
                self._nftables.commit(ruleset.load(self.table) + ruleset.add(self.table, kept) + messages)
            elif error.errno in (errno.EBUSY, errno.EEXIST):
                self._delete(entries)
                self._nftables.commit(messages)
            else:
                raise

    def remove(self, owner: str, entries: Sequence[Entry] = ()) -> None:
        """Takes out what was added for the owner, and `entries`; harmless if some are missing.

        An element is deleted by its key: never name one here that may be another owner's.
        """
        with self._lock:
            self._delete({*self._present.pop(owner, ()), *entries})

    def _delete(self, entries: Iterable[Entry]) -> None:
        listed = ruleset.delete(self.table, list(entries))
        if not listed:
            return
        try:
            self._nftables.commit(listed)
        except FileNotFoundError:
            for message in listed:
                try:
                    self._nftables.commit([message])
                except FileNotFoundError:
                    continue

    def published(self) -> list[Entry]:
        """All that the maps of published ports hold."""
        return [
            (where, nft.Element(element.key, element.data))
            for where in ruleset.ENDPOINTS
            for element in self._nftables.elements(self.table, where)
        ]

    def is_published(self, protocol: str, address: str, port: int) -> bool:
        """A container's port is there, on this very address of the host."""
        where, key = ruleset.key_of(protocol, address, port)
        return any(element.key == key for element in self._nftables.elements(self.table, where))

    def delete_published(self, stale: Collection[Entry]) -> None:
        """Takes ports out whose endpoint is not known any more."""
        with self._lock:
            self._delete(stale)

    def forward_is_dropped_by(self) -> str:
        """The name of another table's forward chain that drops by policy what nobody accepts, or ""."""
        for chain in self._nftables.chains():
            if chain.family in (_INET, _IPV4) and chain.hook == nft.HOOKS["forward"] and chain.policy == nft.DROP:
                return f"{chain.table} {chain.name}"
        return ""
