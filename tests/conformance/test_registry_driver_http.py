"""The driver http against the conformance suite, with the kit's small registry at its other end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import pytest

from hooper.api.driver import DriverContext
from hooper.testing.registry import Registry
from hooper.testing.registry_driver import Place, RegistryDriverSuite
from hooper_registry_http.config import HttpConfig
from hooper_registry_http.driver import HttpRegistry

pytestmark = pytest.mark.anyio


class TestHttp(RegistryDriverSuite):
    @pytest.fixture
    async def place(self) -> AsyncIterator[Place]:
        async with Registry() as registry:
            yield HttpRegistry(cast(DriverContext, SimpleNamespace(config=HttpConfig()))), registry.host
