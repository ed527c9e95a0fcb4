"""Who may know whom by which name."""

from __future__ import annotations

from hooper.dns.protocol import Place, Served
from hooper.dns.table import Table


def place(network: str, *names: str, addresses: list[str] | None = None, links: dict[str, str] | None = None) -> Place:
    return Place(f"id-{network}", network, [*names], addresses or [], links or {})


def table(*served: Served) -> Table:
    made = Table()
    for one in served:
        made.put(one)
    return made


ASKER = Served(id="asker", places=[place("front", "me", addresses=["10.0.0.9"])])


def test_name_alias_and_id_of_a_member_are_known_without_case_or_final_dot() -> None:
    names = table(ASKER, Served(id="x", places=[place("front", "Web", "www", "abc123", addresses=["10.0.0.2"])]))
    for asked in ("Web", "web", "WWW", "www.", "abc123"):
        assert names.addresses("asker", asked, 4) == ["10.0.0.2"], asked
    assert names.addresses("asker", "other", 4) is None


def test_only_members_of_a_common_network_are_known() -> None:
    names = table(ASKER, Served(id="x", places=[place("back", "db", addresses=["10.1.0.2"])]))
    assert names.addresses("asker", "db", 4) is None
    assert names.addresses("asker", "db.back", 4) is None
    assert names.name("asker", "10.1.0.2") is None
    assert names.addresses("nobody", "db", 4) is None


def test_an_alias_of_several_has_all_their_addresses() -> None:
    two = [Served(id=str(n), places=[place("front", f"c{n}", "web", addresses=[f"10.0.0.{n}"])]) for n in (2, 3)]
    names = table(ASKER, *two)
    assert sorted(names.addresses("asker", "web", 4) or []) == ["10.0.0.2", "10.0.0.3"]
    names.remove("2")
    assert names.addresses("asker", "web", 4) == ["10.0.0.3"]
    names.remove("3")
    assert names.addresses("asker", "web", 4) is None


def test_the_first_network_that_has_the_name_answers() -> None:
    asker = Served(id="asker", places=[place("front", "me"), place("back", "me")])
    other = Served(
        id="x",
        places=[place("back", "db", addresses=["10.1.0.2"]), place("front", "db", addresses=["10.0.0.2"])],
    )
    assert table(asker, other).addresses("asker", "db", 4) == ["10.0.0.2"]
    assert table(asker, other).addresses("asker", "db.back", 4) == ["10.1.0.2"]


def test_names_and_networks_may_have_dots() -> None:
    asker = Served(id="asker", places=[place("a.net", "me")])
    names = table(asker, Served(id="x", places=[place("a.net", "my.db", addresses=["10.0.0.2"])]))
    assert names.addresses("asker", "my.db", 4) == ["10.0.0.2"]
    assert names.addresses("asker", "my.db.a.net", 4) == ["10.0.0.2"]
    assert names.addresses("asker", "my.db.net", 4) is None


def test_a_name_without_addresses_of_the_version_is_known_nevertheless() -> None:
    both = Served(id="y", places=[place("front", "six", addresses=["10.0.0.3", "fd00::3"])])
    names = table(ASKER, Served(id="x", places=[place("front", "db", addresses=["10.0.0.2"])]), both)
    assert names.addresses("asker", "db", 6) == []
    assert names.addresses("asker", "six", 6) == ["fd00::3"]
    assert names.addresses("asker", "six", 4) == ["10.0.0.3"]


def test_a_link_is_known_to_its_own_container_alone_and_hides_a_member_of_that_name() -> None:
    asker = Served(id="asker", places=[place("front", "me", links={"DB": "mysql"})])
    other = Served(id="other", places=[place("front", "db", addresses=["10.0.0.7"])])
    names = table(asker, other, Served(id="x", places=[place("front", "mysql", addresses=["10.0.0.2"])]))
    assert names.addresses("asker", "db", 4) == ["10.0.0.2"]
    assert names.addresses("other", "db", 4) == ["10.0.0.7"]
    names.remove("x")
    assert names.addresses("asker", "db", 4) is None


def test_a_change_takes_the_place_of_what_was_known() -> None:
    names = table(ASKER, Served(id="x", places=[place("front", "old", addresses=["10.0.0.2"])]))
    names.put(Served(id="x", places=[place("front", "new", addresses=["10.0.0.4"])]))
    assert names.addresses("asker", "old", 4) is None
    assert names.addresses("asker", "new", 4) == ["10.0.0.4"]
    assert names.name("asker", "10.0.0.2") is None
    assert sorted(names) == ["asker", "x"] and len(names) == 2


def test_an_address_leads_to_member_and_network() -> None:
    other = Served(id="x", places=[place("front", "db", "alias", addresses=["10.0.0.2", "fd00:0:0::2"])])
    names = table(ASKER, other)
    assert names.name("asker", "10.0.0.2") == "db.front"
    assert names.name("asker", "fd00::2") == "db.front"
    assert names.name("asker", "10.0.0.3") is None


def test_a_name_that_no_message_can_carry_is_not_told() -> None:
    names = table(ASKER, Served(id="x", places=[place("front", "n" * 64, addresses=["10.0.0.2"])]))
    assert names.name("asker", "10.0.0.2") is None


def test_an_address_that_went_to_another_stays_the_others() -> None:
    names = table(ASKER, Served(id="x", places=[place("front", "old", addresses=["10.0.0.2"])]))
    names.put(Served(id="y", places=[place("front", "new", addresses=["10.0.0.2"])]))
    names.remove("x")
    assert names.name("asker", "10.0.0.2") == "new.front"
