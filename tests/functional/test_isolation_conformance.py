"""The bundled isolation backends against the conformance suite."""

from __future__ import annotations

import pytest

from hooper.api.isolation import IsolationBackend
from hooper.testing.isolation import IsolationConformance
from hooper_isolation_namespaces.backend import NamespacesBackend

pytestmark = pytest.mark.root


class TestNamespaces(IsolationConformance):
    @pytest.fixture
    def backend(self) -> IsolationBackend:
        return NamespacesBackend("namespaces", None)
