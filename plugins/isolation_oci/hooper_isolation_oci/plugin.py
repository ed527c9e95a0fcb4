"""Registers the isolation backends that drive an OCI runtime program."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl

_FACTORY = "hooper_isolation_oci.backend:OciBackend"
_CONFIG = "hooper_isolation_oci.config:OciConfig"


@hookimpl
def hooper_register_isolation_backends() -> Iterable[DriverSpec]:
    """runc, and the programs with the same command line."""
    yield DriverSpec("runc", "the reference OCI runtime", _FACTORY, _CONFIG, priority=10)
    yield DriverSpec("crun", "an OCI runtime in C", _FACTORY, _CONFIG, priority=-1)
    yield DriverSpec("runsc", "gVisor: a kernel in user space below the container", _FACTORY, _CONFIG, priority=-2)
