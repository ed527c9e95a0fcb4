"""Who is called what, and who may know. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from hooper.dns.protocol import Place, Served

LABEL_MAX, NAME_MAX = 63, 253
"""RFC 1035, 2.3.4."""


class _Network:
    """What the members of one network are called."""

    def __init__(self) -> None:
        self.members: dict[str, Place] = {}
        self.by_name: dict[str, dict[str, Place]] = {}
        """Lower-case name to container id to place."""
        self.by_address: dict[str, Place] = {}

    def add(self, container_id: str, place: Place) -> None:
        self.members[container_id] = place
        for name in place.names:
            self.by_name.setdefault(name.lower(), {})[container_id] = place
        for address in place.addresses:
            self.by_address[_canonical(address)] = place

    def remove(self, container_id: str) -> None:
        place = self.members.pop(container_id)
        for name in place.names:
            holders = self.by_name.get(name.lower(), {})
            holders.pop(container_id, None)
            if not holders:
                self.by_name.pop(name.lower(), None)
        for address in place.addresses:
            if self.by_address.get(_canonical(address)) is place:
                del self.by_address[_canonical(address)]

    def addresses(self, name: str) -> list[str] | None:
        """None if nobody has the name."""
        holders = self.by_name.get(name)
        if holders is None:
            return None
        return [address for place in holders.values() for address in place.addresses]


class Table:
    """The containers that are served, and the names in their networks."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._networks: dict[str, _Network] = {}

    def __len__(self) -> int:
        return len(self._served)

    def __iter__(self) -> Iterator[str]:
        return iter([*self._served])

    def get(self, container_id: str) -> Served | None:
        return self._served.get(container_id)

    def put(self, served: Served) -> None:
        """Adds a container, or takes in what has changed of it."""
        self.remove(served.id)
        self._served[served.id] = served
        for place in served.places:
            self._networks.setdefault(place.network_id, _Network()).add(served.id, place)

    def remove(self, container_id: str) -> None:
        """Harmless if it is not there."""
        served = self._served.pop(container_id, None)
        for place in served.places if served else ():
            network = self._networks[place.network_id]
            network.remove(container_id)
            if not network.members:
                del self._networks[place.network_id]

    def addresses(self, asker: str, name: str, version: int) -> list[str] | None:
        """The addresses of this IP version that `name` has for the container `asker`.

        They are those of the first of its networks where the name has any. [] if the name has only addresses of the
        other version, None if nobody is called so.
        """
        served = self._served.get(asker)
        if served is None:
            return None
        known = False
        for member, network in _splits(name.lower().rstrip(".")):
            for found in self._lookups(served, member, network):
                fitting = [address for address in found if (":" in address) == (version == 6)]
                if fitting:
                    return fitting
                known = True
        return [] if known else None

    def _lookups(self, served: Served, member: str, network: str) -> Iterator[list[str]]:
        """What the asker's networks say, its own links first. `network` "" is any."""
        places = [place for place in served.places if not network or place.network.lower() == network]
        linked = [{alias.lower(): target.lower() for alias, target in place.links.items()} for place in places]
        names = [(place, links[member]) for place, links in zip(places, linked, strict=True) if member in links]
        names += [(place, member) for place, links in zip(places, linked, strict=True) if member not in links]
        for place, name in names:
            found = self._networks[place.network_id].addresses(name)
            if found is not None:
                yield found

    def name(self, asker: str, address: str) -> str | None:
        """MEMBER.NETWORK of the one with this address in a network of the asker's; None if none is known."""
        served = self._served.get(asker)
        for place in served.places if served else ():
            found = self._networks[place.network_id].by_address.get(_canonical(address))
            if found is not None:
                full = f"{found.names[0]}.{found.network}"
                return full if sendable(full) else None
        return None


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """(member, network) that a.b.c may mean: a.b.c in any, a.b in c, a in b.c."""
    yield name, ""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:count]), ".".join(parts[count:])


def sendable(name: str) -> bool:
    """It fits into a DNS message."""
    raw = name.encode()
    return len(raw) <= NAME_MAX and all(0 < len(label) <= LABEL_MAX for label in raw.split(b"."))


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address)) if ":" in address else address
