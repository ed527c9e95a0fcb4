"""Scopes of tokens (distribution-spec's token authentication: docs/spec/auth/scope.md)."""

from __future__ import annotations

CATALOG = "registry:catalog:*"


def pull(repository: str) -> str:
    """For reading."""
    return f"repository:{repository}:pull"


def push(repository: str) -> str:
    """For writing."""
    return f"repository:{repository}:pull,push"


def delete(repository: str) -> str:
    return f"repository:{repository}:delete,pull,push"
