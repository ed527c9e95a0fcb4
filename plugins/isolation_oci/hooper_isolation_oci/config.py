"""Settings of an OCI runtime program."""

from __future__ import annotations

import msgspec


class OciConfig(msgspec.Struct, forbid_unknown_fields=True):
    path: str = ""
    """The program; by default the backend's name, looked up in $PATH."""
    root: str = ""
    """Where it keeps its state (--root); by default in each container's own volatile directory."""
    args: list[str] = []
    """Further global options, before the command: ["--platform=kvm"]."""
