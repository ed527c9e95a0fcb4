"""Fixtures of the functional tests of builds below the daemon: what runs commands, and what takes contexts.

What they need is beside those tests, and is imported with the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hooper.testing.workers import ForkWorkers

if TYPE_CHECKING:
    from build_run_support import Builds

    from hooper.api.build_graph import LocalSource
    from hooper.engine.build_contexts import Contexts


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[Builds]:
    """What runs the commands of builds, for all tests of a file."""
    from build_run_support import opened_builds

    with opened_builds(short_tmp / request.path.stem.removeprefix("test_build_")) as made:
        yield made


@pytest.fixture
def builds(bench: Builds) -> Iterator[Builds]:
    """The same; when a test is over nothing of its commands is left."""
    with bench.nothing_left():
        yield bench


@pytest.fixture
def agent(short_tmp: Path) -> Iterator[Path]:
    """The socket of an agent that answers what it is told."""
    from build_run_support import echoing_agent

    with echoing_agent(short_tmp) as path:
        yield path


@pytest.fixture
def tree(tmp_path: Path) -> tuple[LocalSource, dict[LocalSource, Path], Path]:
    """A context with some files."""
    from build_run_support import context

    return context(tmp_path / "context")


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    """What takes the contexts of builds."""
    from hooper.engine.build_contexts import Contexts

    return Contexts(ForkWorkers(), tmp_path / "builds")
