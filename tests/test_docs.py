"""The documentation says what the code has, and nothing that it does not have."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from hooper import hookspecs
from hooper.api.specs import DriverSpec, Kind
from hooper.config import known_keys
from hooper.plugins.manager import HOOKS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NAMES = [
    name for cls in (hookspecs.EngineHooks, hookspecs.CliHooks) for name in vars(cls) if name.startswith("hooper_")
]


@pytest.mark.parametrize("name", NAMES)
def test_every_hook_is_documented_with_an_example(name: str) -> None:
    text = (DOCS / "hooks.md").read_text()
    section = text.partition(f"### `{name}`\n")[2].partition("\n##")[0]
    assert f"def {name}():" in section
    spec = getattr(hookspecs.EngineHooks, name, None) or getattr(hookspecs.CliHooks, name)
    assert inspect.getdoc(spec).partition("\n")[0] in section  # type: ignore[union-attr]


def test_no_hook_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"### `(\w+)`", (DOCS / "hooks.md").read_text())) == set(NAMES)


def test_every_kind_of_driver_has_a_hook() -> None:
    assert set(HOOKS.values()) == set(Kind)
    assert set(HOOKS) == {name for name in NAMES if name != "hooper_register_cli_commands"}


def test_every_field_of_a_spec_is_documented() -> None:
    text = (DOCS / "hooks.md").read_text()
    assert [field.name for field in fields(DriverSpec) if f"| `{field.name}` |" not in text] == []


def test_every_configuration_key_is_documented_and_exists() -> None:
    documented = set(re.findall(r"^\| `(\w+\.\w+)` \|", (DOCS / "operator.md").read_text(), re.MULTILINE))
    assert documented == set(known_keys())


def test_every_kind_has_a_row_for_plugin_authors() -> None:
    text = (DOCS / "plugins.md").read_text()
    for kind in Kind:
        row = next((line for line in text.splitlines() if line.startswith(f"| {kind} |")), "")
        path = re.search(r"`(hooper\.api\.\w+)\.(\w+)`", row)
        assert path, f"no row for {kind}"
        module = __import__(path[1], fromlist=[path[2]])
        assert inspect.isabstract(getattr(module, path[2])), path[0]


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(DOCS.glob("**/*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target
