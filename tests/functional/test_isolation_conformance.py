"""The bundled isolation backends against the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from hooper.api import oci
from hooper.api.errors import HooperError, SkipDriver
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

    @in_monitor
    def test_the_monitor_keeps_its_own_oom_score(self, sample: Sample) -> None:
        """The kernel gives one that is set to whoever shares the memory."""
        if not script_run.available():
            pytest.skip("this host runs no scripts")
        assert isinstance(sample.backend, Attempted)
        own = Path("/proc/self/oom_score_adj")
        own.write_text("100")
        sample.bundle.spec.process.oom_score_adj = 500
        assert sample.run("cat", "/proc/self/oom_score_adj").stdout == "500\n"
        assert sample.backend.succeeded == 1
        assert own.read_text() == "100\n"

    @in_monitor
    def test_a_filter_need_not_allow_to_look_for_the_program(self, sample: Sample) -> None:
        if not script_run.available():
            pytest.skip("this host runs no scripts")
        assert isinstance(sample.backend, Attempted)
        kill = oci.Syscall(names=["faccessat", "faccessat2", "access"], action="SCMP_ACT_KILL_PROCESS")
        sample.bundle.spec.linux.seccomp = oci.Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=[kill]).packed()
        assert sample.run("true").code == 0
        assert sample.backend.succeeded == 1

    @in_monitor
    def test_a_script_that_its_filter_kills_is_no_container(self, sample: Sample) -> None:
        """Not one that has ended either: it never ran its program."""
        if not script_run.available():
            pytest.skip("this host runs no scripts")
        assert isinstance(sample.backend, Attempted)
        kill = oci.Syscall(names=["capset"], action="SCMP_ACT_KILL_PROCESS")
        sample.bundle.spec.linux.seccomp = oci.Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=[kill]).packed()
        with pytest.raises(HooperError):
            sample.run("true")
        assert sample.backend.succeeded == 0


class TestRunc(IsolationConformance):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> IsolationBackend:
        backend = OciBackend("runc", None)
        try:
            backend.probe(host_info(tmp_path, tmp_path))
        except SkipDriver as skip:
            pytest.skip(str(skip))
        return backend
