"""Whatever is taken and released: no address twice, none outside, none reserved."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from hooper.api.errors import Conflict, Unavailable
from hooper.api.network import Network, Pool
from hooper.engine.ipam import AddressPool

NETWORK = Network(id="00" * 32, name="n", driver="bridge", created=0.0)
STEPS = st.lists(st.one_of(st.just("take"), st.integers(0, 63), st.integers(-64, -1)), max_size=200)


@given(length=st.integers(24, 30), steps=STEPS)
def test_the_pool_agrees_with_a_model(length: int, steps: list[str | int]) -> None:
    subnet = ipaddress.IPv4Network(f"10.0.0.0/{length}")
    gateway = subnet.network_address + 1
    usable = {address for address in subnet.hosts() if address != gateway}
    pool, held = AddressPool(Pool(str(subnet), str(gateway))), set()
    for step in steps:
        if step == "take":
            try:
                address = ipaddress.IPv4Interface(pool.take(NETWORK)).ip
            except Unavailable:
                assert held == usable
                continue
            assert address in usable - held
            held.add(address)
        elif isinstance(step, int) and step < 0:
            for address in sorted(held)[:1]:
                pool.release(f"{address}/{length}")
                held.discard(address)
        else:
            address = subnet.network_address + int(step) % subnet.num_addresses
            try:
                pool.take_static(str(address))
            except Conflict:
                assert address not in usable or address in held
                continue
            assert address in usable - held
            held.add(address)


@given(count=st.integers(1, 5))
def test_a_released_address_comes_back_after_all_others(count: int) -> None:
    pool = AddressPool(Pool("10.0.0.0/27", "10.0.0.1"))
    released = [pool.take(NETWORK) for _ in range(count)]
    for address in released:
        pool.release(address)
    others = [pool.take(NETWORK) for _ in range(29 - count)]
    assert not set(others) & set(released)
    assert pool.take(NETWORK) == released[0]
