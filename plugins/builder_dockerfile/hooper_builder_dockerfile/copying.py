"""COPY and ADD: the rules of their destination and owner."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from hooper.api.builder import CopyStep
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.scope import Scope
from hooper_builder_dockerfile.sources import Found, is_url

_MODE = re.compile(r"0?[0-7]{1,4}\Z")
_OWNER = re.compile(r"[^:\s]+(?::[^:\s]+)?\Z|:[^:\s]+\Z")
_URL_MODE = "600"


def copy_step(step: ins.Transfer, scope: Scope, found: Sequence[Found]) -> tuple[CopyStep, str]:
    """What to copy, and the history's words. Fault for a destination, owner or mode that cannot be."""
    destination = _destination(scope.expand(step.destination), scope)
    if len(found) > 1 and not destination.endswith("/"):
        raise Fault(
            f"When using {step.keyword} with more than one source file, the destination must be a directory "
            "and end with a /",
            f"Write {step.destination}/",
        )
    chown, chmod = scope.expand(step.chown), scope.expand(step.chmod)
    if chown and not _OWNER.match(chown):
        raise Fault(f"invalid chown string: {chown!r}", "Write --chown=USER[:GROUP], by name or number.")
    if chmod and not _MODE.match(chmod):
        raise Fault(f"invalid chmod parameter: {chmod!r}", "Write an octal mode from 0 to 07777.")
    downloads = step.keyword == "ADD" and all(is_url(scope.expand(word)) for word in step.sources)
    copy = CopyStep(
        sources=tuple(item.source for item in found),
        destination=destination,
        chown=chown,
        chmod=chmod or (_URL_MODE if downloads else ""),
        keep_owner=bool(step.source_stage) and not chown,
        unpack=step.keyword == "ADD" and not downloads and not step.heredocs,
    )
    return copy, _shown(step, copy, found)


def _destination(text: str, scope: Scope) -> str:
    if not text:
        raise Fault("the destination is empty after expansion", "Give the variable in it a value.")
    directory = text.endswith(("/", "/.")) or text == "."
    path = posixpath.normpath(posixpath.join("/", scope.state.config.working_dir, text)).replace("//", "/")
    return f"{path}/" if directory and path != "/" else path


def _shown(step: ins.Transfer, copy: CopyStep, found: Sequence[Found]) -> str:
    what = f"{found[0].kind if len(found) == 1 else 'multi'}:{found[0].digest}"
    owner = f"--chown={copy.chown} " if copy.chown else ""
    mode = f"--chmod={copy.chmod} " if step.chmod else ""
    return f"{step.keyword} {owner}{mode}{what} in {copy.destination} "
