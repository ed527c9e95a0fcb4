"""Which network of a container has its default routes and its published ports."""

from __future__ import annotations

from typing import Any

import pytest

from hooper.api.network import Endpoint, Network, PortBinding
from hooper.engine.gateways import Place, elect


def place(name: str, priority: int = 0, *, v4: bool = True, v6: bool = False, **fields: Any) -> Place:
    network = Network(id=name, name=name, driver="bridge", created=0.0, internal=fields.pop("internal", False))
    endpoint = Endpoint(
        id=name, network_id=name, container_id="c", container_name="c", gw_priority=priority,
        address="10.0.0.2/24" if v4 else "", address6="fd00::2/64" if v6 else "", default_route=False,
        default_route6=False, **fields,
    )  # fmt: skip
    return network, endpoint


def routes(*places: Place) -> tuple[list[str], list[str]]:
    elect(places)
    return [n.name for n, e in places if e.default_route], [n.name for n, e in places if e.default_route6]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([place("b"), place("a")], (["a"], [])),
        ([place("b", 1), place("a")], (["b"], [])),
        ([place("b"), place("a", -1)], (["b"], [])),
        ([place("a"), place("b", v6=True)], (["b"], ["b"])),
        ([place("a", 1), place("b", v6=True)], (["a"], ["b"])),
        ([place("a", v4=False, v6=True), place("b")], (["b"], ["a"])),
        ([place("a", internal=True), place("b")], (["b"], [])),
        ([place("a", 9, internal=True)], ([], [])),
        ([], ([], [])),
    ],
)
def test_default_routes(places: list[Place], expected: tuple[list[str], list[str]]) -> None:
    assert routes(*places) == expected


def test_ports_go_along_and_only_changes_are_told() -> None:
    ports = [PortBinding("tcp", 80, "0.0.0.0", 8080)]
    first, second, third = place("b", ports=ports, held=True), place("c"), place("d")
    assert elect([first, second, third]) == [first[1]]
    newcomer = place("a")
    assert elect([first, second, third, newcomer]) == [first[1], newcomer[1]]
    assert (newcomer[1].ports, newcomer[1].held) == (ports, True)
    assert (first[1].ports, first[1].held) == ([], False)
    assert elect([first, second, third, newcomer]) == []


def test_ports_stay_where_nothing_leads_outside() -> None:
    ports = [PortBinding("tcp", 80)]
    only = place("a", internal=True, ports=ports)
    elect([only, place("b", internal=True)])
    assert only[1].ports == ports
