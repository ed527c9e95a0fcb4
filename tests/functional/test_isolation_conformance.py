"""The bundled isolation backends against the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from hooper.api.errors import SkipDriver
from hooper.api.isolation import IsolationBackend
from hooper.linux import script_run
from hooper.linux.host import host_info
from hooper_isolation_namespaces.backend import NamespacesBackend
from hooper_isolation_oci.backend import OciBackend

pytest.register_assert_rewrite("hooper.testing.isolation")
from hooper.testing.isolation import IsolationConformance, in_monitor  # noqa: E402
from hooper.testing.isolation_sample import Sample  # noqa: E402
from hooper.testing.isolation_within import Attempted, MadeWithin  # noqa: E402

pytestmark = pytest.mark.root


class TestNamespaces(IsolationConformance):
    @pytest.fixture
    def backend(self) -> IsolationBackend:
        return NamespacesBackend("namespaces", None)


class TestNamespacesWithin(IsolationConformance):
    """The way that hooper takes: the container's first process makes it."""

    @pytest.fixture
    def backend(self) -> IsolationBackend:
        return MadeWithin(NamespacesBackend("namespaces", None))


class TestNamespacesAttempted(IsolationConformance):
    """The way that it goes first: a script makes it."""

    @pytest.fixture
    def backend(self) -> IsolationBackend:
        return Attempted(NamespacesBackend("namespaces", None))

    @in_monitor
    def test_a_usual_container_is_made_so(self, sample: Sample) -> None:
        """The other tests would pass, too, if every attempt failed."""
        if not script_run.available():
            pytest.skip("this host runs no scripts")
        assert isinstance(sample.backend, Attempted)
        assert sample.run("true").code == 0
        assert sample.backend.succeeded == 1


class TestRunc(IsolationConformance):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> IsolationBackend:
        backend = OciBackend("runc", None)
        try:
            backend.probe(host_info(tmp_path, tmp_path))
        except SkipDriver as skip:
            pytest.skip(str(skip))
        return backend
