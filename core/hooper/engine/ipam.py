"""Which subnets and addresses are given out. Values in, values out: what is in use is told by the caller."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from hooper.api.errors import Conflict, Forbidden, InvalidArgument, Unavailable
from hooper.api.network import Network, Pool

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


DEFAULT_POOLS = (*(f"172.{second}.0.0/16:16" for second in range(17, 32)), "192.168.0.0/16:20")
"""Where networks that name no subnet are put, in order: 15 large ones, then 16 of 4094 addresses."""


class AddressSpace:
    """The pools that subnets are taken from, each as "SUBNET:LENGTH": "10.200.0.0/16:24" is 256 subnets
    of 254 addresses. InvalidArgument for one that is not so."""

    def __init__(self, pools: Sequence[str] = ()) -> None:
        self._pools = [_pool_of(text) for text in pools]
        if not any(base.version == 4 for base, _ in self._pools):
            self._pools = [*map(_pool_of, DEFAULT_POOLS), *self._pools]

    def choose(self, occupied: Iterable[str], version: int = 4) -> Subnet | None:
        """The first subnet that overlaps with nothing occupied (addresses or subnets, as text).

        Unavailable if there is none; None if no pool of IP version 6 is configured.
        """
        pools = [pool for pool in self._pools if pool[0].version == version]
        if version == 6 and not pools:
            return None
        taken = [subnet for text in occupied if (subnet := subnet_of(text)).version == version]
        for base, length in pools:
            candidates: Iterator[Subnet] = base.subnets(new_prefix=length)
            for candidate in candidates:
                if not any(_overlap(candidate, subnet) for subnet in taken):
                    return candidate
        raise Unavailable(
            f"could not find an available, non-overlapping IPv{version} address pool among the defaults to assign"
            " to the network",
            remedy="Remove networks that nobody uses (hooper network prune), give a --subnet, or configure"
            " network.default_address_pools.",
        )


def _pool_of(text: str) -> tuple[Subnet, int]:
    base, _, length = text.rpartition(":")
    subnet = subnet_of(base, "address pool")
    if not length.isdigit() or not subnet.prefixlen <= int(length) <= subnet.max_prefixlen - 2:
        raise InvalidArgument(
            f'invalid address pool "{text}"',
            "the prefix length of the networks to be made of it is missing or impossible",
            'Write SUBNET:LENGTH, such as "10.200.0.0/16:24".',
        )
    return subnet, int(length)


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one[0] <= other[-1] and other[0] <= one[-1]  # type: ignore[operator]


def subnet_of(text: str, what: str = "subnet") -> Subnet:
    """A subnet from text; InvalidArgument if it is none. Bits beyond the prefix are cleared."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidArgument(
            f'invalid {what} "{text}"', str(error), "Write an address and a prefix length: 172.28.0.0/16."
        ) from error


def private_subnet6(network_id: str) -> Subnet:
    """A unique local /64 (RFC 4193), derived from the network's id."""
    digits = hashlib.sha256(network_id.encode()).hexdigest()[:14]
    return ipaddress.IPv6Network((int(f"fd{digits}".ljust(32, "0"), 16), 64))


def complete(pools: Sequence[Pool], others: Iterable[str]) -> list[Pool]:
    """The pools checked and with their gateways.

    Forbidden if one overlaps with the subnets of other networks or another of the pools.
    """
    taken = [subnet_of(text) for text in others]
    done = []
    for pool in pools:
        subnet = subnet_of(pool.subnet)
        if any(subnet.version == other.version and subnet.overlaps(other) for other in taken):
            raise Forbidden(
                f"invalid pool request: Pool overlaps with other one on this address space ({subnet})",
                remedy="Choose another subnet; hooper network inspect shows those in use.",
            )
        taken.append(subnet)
        done.append(_complete_one(pool, subnet))
    return done


def _complete_one(pool: Pool, subnet: Subnet) -> Pool:
    if subnet.num_addresses < 4:
        raise InvalidArgument(f"invalid subnet {subnet}", "it has no room for a gateway and an endpoint")
    gateway = pool.gateway or str(subnet.network_address + 1)
    _inside(gateway, subnet, f"no matching subnet for gateway {gateway}")
    for address in pool.auxiliary.values():
        _inside(address, subnet, f"no matching subnet for aux-address {address}")
    if pool.ip_range:
        inner = subnet_of(pool.ip_range, "ip-range")
        if inner.version != subnet.version or inner.prefixlen < subnet.prefixlen or not inner.overlaps(subnet):
            raise InvalidArgument(f"no matching subnet for range {pool.ip_range}", f"the subnet is {subnet}")
    return Pool(str(subnet), gateway, pool.ip_range, pool.auxiliary, pool.automatic)


def _inside(address: str, subnet: Subnet, what: str) -> None:
    try:
        good = ipaddress.ip_address(address) in subnet
    except ValueError as error:
        raise InvalidArgument(what, str(error)) from error
    if not good:
        raise InvalidArgument(what, f"the subnet is {subnet}")


def mac_address(address: str, endpoint_id: str) -> str:
    """02:42 and the four bytes of an IPv4 address, as Docker has it: an address keeps its MAC.

    Without an address ("") the bytes are the first of the endpoint's id.
    """
    if not address:
        return "02:42:" + bytes.fromhex(endpoint_id[:8]).hex(":")
    return "02:42:" + ipaddress.IPv4Address(address.partition("/")[0]).packed.hex(":")


class AddressPool:
    """The addresses of one pool. A released one comes up again only after all the others."""

    def __init__(self, pool: Pool, used: Iterable[str] = ()) -> None:
        self.subnet = subnet_of(pool.subnet)
        inner = subnet_of(pool.ip_range) if pool.ip_range else self.subnet
        self._base = int(self.subnet.network_address)
        last = int(self.subnet.broadcast_address)
        reserved = {self._base, *self._numbers([pool.gateway, *pool.auxiliary.values()])}
        if self.subnet.version == 4:
            reserved.add(last)
        self._reserved = frozenset(reserved)
        self._first, self._last = int(inner.network_address), int(inner.broadcast_address)
        self._used = set(self._numbers(used)) - reserved
        self._free = self._last - self._first + 1 - sum(map(self._dynamic, self._used | reserved))
        self._cursor = self._first

    def _numbers(self, addresses: Iterable[str]) -> Iterator[int]:
        for address in addresses:
            if address:
                yield int(ipaddress.ip_address(address.partition("/")[0]))

    def _dynamic(self, number: int) -> bool:
        return self._first <= number <= self._last

    def holds(self, address: str) -> bool:
        """The address, static or not, is one of the subnet."""
        found = ipaddress.ip_address(address)
        return found.version == self.subnet.version and found in self.subnet

    def take(self, network: Network) -> str:
        """A free address with its prefix length. Unavailable if there is none; `network` is for the message."""
        if self._free <= 0:
            raise Unavailable(
                f"no available IPv{self.subnet.version} addresses on this network's address pools:"
                f" {network.name} ({network.id})",
                remedy="Stop containers of the network, or make one with a larger subnet.",
            )
        while self._cursor in self._used or self._cursor in self._reserved:
            self._advance()
        number = self._cursor
        self._advance()
        return self._claim(number)

    def _advance(self) -> None:
        self._cursor = self._cursor + 1 if self._cursor < self._last else self._first

    def _claim(self, number: int) -> str:
        self._used.add(number)
        if self._dynamic(number):
            self._free -= 1
        address = self.subnet.network_address + (number - self._base)
        return f"{address}/{self.subnet.prefixlen}"

    def take_static(self, address: str) -> str:
        """This address of the subnet. Conflict if it is in use or reserved."""
        number = int(ipaddress.ip_address(address))
        if number in self._used or number in self._reserved:
            raise Conflict(
                f"Address already in use: {address}",
                "it is the gateway's or another endpoint's" if number in self._reserved else "another endpoint has it",
                "Choose another address, or none.",
            )
        return self._claim(number)

    def status(self) -> tuple[int, int]:
        """How many addresses of the subnet are in use or reserved, and how many may still be given out."""
        return len(self._used) + len(self._reserved), max(self._free, 0)

    def release(self, address: str) -> None:
        """Harmless for one that is not in use."""
        for number in self._numbers([address]):
            if number in self._used:
                self._used.discard(number)
                self._free += self._dynamic(number)


class NetworkAddresses:
    """All pools of one network."""

    def __init__(self, network: Network, used: Iterable[str]) -> None:
        self._network = network
        addresses = list(used)
        self._pools = []
        for pool in network.pools:
            subnet = subnet_of(pool.subnet)
            own = [a for a in addresses if a and ipaddress.ip_interface(a).ip in subnet]
            self._pools.append((AddressPool(pool, own), pool))

    def take(self, version: int, static: str = "") -> tuple[str, str]:
        """An address with prefix length, and the gateway of its pool; ("", "") if the network has no pool
        of that version and none was asked for."""
        pools = [(pool, given.gateway) for pool, given in self._pools if pool.subnet.version == version]
        if static:
            self._check_choice(version)
            return self._static(version, static)
        error: Unavailable | None = None
        for pool, gateway in pools:
            try:
                return pool.take(self._network), gateway
            except Unavailable as full:
                error = full
        if error:
            raise error
        return "", ""

    def _check_choice(self, version: int) -> None:
        pools = [pool for _, pool in self._pools if (":" in pool.subnet) is (version == 6)]
        if pools and all(pool.automatic for pool in pools):
            raise InvalidArgument(
                "user specified IP address is supported only when connecting to networks with user configured subnets",
                f"the subnet of {self._network.name} was chosen by the engine",
                f"Make the network with --subnet, such as {pools[0].subnet}.",
            )

    def status(self) -> dict[str, tuple[int, int]]:
        """By subnet: addresses in use, and those that may still be given out."""
        return {given.subnet: pool.status() for pool, given in self._pools}

    def _static(self, version: int, static: str) -> tuple[str, str]:
        try:
            for pool, given in self._pools:
                if pool.subnet.version == version and pool.holds(static):
                    return pool.take_static(static), given.gateway
        except ValueError as error:
            raise InvalidArgument(f"invalid IP address: {static}", str(error)) from error
        raise InvalidArgument(
            "invalid endpoint settings: no configured subnet or ip-range contains IP address " + static,
            f"the network is {self._network.name}",
            f"Its subnets are: {', '.join(str(pool.subnet) for pool, _ in self._pools) or 'none'}.",
        )

    def release(self, *addresses: str) -> None:
        for address in addresses:
            for pool, _ in self._pools:
                if address and pool.holds(address.partition("/")[0]):
                    pool.release(address)
