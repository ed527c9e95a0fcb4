"""Which subnets a network gets: those that were asked for, completed by ones that nobody uses."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import msgspec

from hooper.api.network import Network, NetworkDriver, Pool
from hooper.engine import ipam, network_settings
from hooper.engine.network_store import NetworkStore
from hooper.linux.netlink_route import host_subnets

_LOCK = "\0hooper-address-pools"
_LOCK_PATIENCE_S = 10.0


@asynccontextmanager
async def host_lock() -> AsyncIterator[None]:
    """From the choice of a free subnet until it is the host's: no other daemon of this host chooses meanwhile.

    An abstract socket's name (unix(7)) is taken once in a network namespace, and free again when its owner dies.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        with anyio.move_on_after(_LOCK_PATIENCE_S):
            while True:
                try:
                    lock.bind(_LOCK)
                    break
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
                await anyio.sleep(0.005)
        yield


class PoolChooser:
    """`address_pools` as `ipam.AddressSpace` takes them."""

    def __init__(self, networks: NetworkStore, address_pools: Sequence[str]) -> None:
        self._networks, self._space = networks, ipam.AddressSpace(address_pools)

    async def choose(self, network: Network, ignoring: Collection[str] = ()) -> tuple[list[Pool], list[str]]:
        """Its pools, completed, and warnings. `ignoring`: subnets of its own that it is about to give up.

        Forbidden if one overlaps with another network's; Unavailable if no subnet is free.
        """
        others = [pool.subnet for other in self._networks.all() if not other.config_only for pool in other.pools]
        others = [subnet for subnet in others if subnet not in ignoring]
        pools, warnings = network_settings.usable_pools(network)
        if network.ipam_driver == "null":
            return [], warnings
        if network.ipv4 and not any(pool.subnet and ":" not in pool.subnet for pool in pools):
            unnamed = next((pool for pool in pools if not pool.subnet), Pool(""))
            subnet = str(self._space.choose([*others, *await _occupied(ignoring)]))
            pools.insert(0, msgspec.structs.replace(unnamed, subnet=subnet, automatic=True))
        pools = [pool for pool in pools if pool.subnet]
        if network.ipv6 and not any(":" in pool.subnet for pool in pools):
            chosen = self._space.choose([*others, *await _occupied(ignoring)], 6)
            pools.append(Pool(str(chosen or ipam.private_subnet6(network.id)), automatic=True))
        return ipam.complete(pools, others), warnings

    async def reconfigured(self, network: Network, driver: NetworkDriver) -> Network | None:
        """A predefined network as its driver's configuration has it now; None if that is how it is."""
        if not driver.addresses:
            return None
        kept = [pool for pool in network.pools if pool.automatic and ":" not in pool.subnet]
        wanted = msgspec.structs.replace(network, ipv6=driver.default_ipv6, pools=[*driver.default_pools] or kept)
        wanted.pools, _ = await self.choose(wanted, ignoring=[pool.subnet for pool in network.pools])
        return None if (network.ipv6, network.pools) == (wanted.ipv6, wanted.pools) else wanted


async def _occupied(ignoring: Collection[str]) -> list[str]:
    found = await anyio.to_thread.run_sync(host_subnets)
    return [subnet for subnet in found if str(ipam.subnet_of(subnet)) not in ignoring]
