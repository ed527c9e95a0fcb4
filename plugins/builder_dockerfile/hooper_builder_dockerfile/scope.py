"""A stage while it is being built: its state, its arguments, and what names mean in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from hooper.api.builder import BuildState
from hooper.api.model import History
from hooper_builder_dockerfile.words import expand

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass
class Scope:
    state: BuildState
    escape: str
    platform: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    """Those declared so far that have a value."""
    command_set: bool = False
    """CMD stood in this stage."""
    author: str = ""

    def lookup(self, name: str) -> str | None:
        """ENV hides ARG."""
        return self.environment().get(name, self.arguments.get(name))

    def expand(self, text: str) -> str:
        return expand(text, self.lookup, self.escape)

    def environment(self) -> dict[str, str]:
        pairs = (item.partition("=") for item in self.state.config.env or ())
        return {name: value for name, _, value in pairs}

    def shell(self) -> Sequence[str]:
        return self.state.config.shell or DEFAULT_SHELL

    def nothing_run(self, text: str) -> str:
        """The history's words for a step that only changes the configuration."""
        return f"{' '.join(self.shell())} #(nop) {text}"

    def run_arguments(self) -> dict[str, str]:
        """The arguments that a RUN sees, by name."""
        hidden = self.environment()
        return {name: value for name, value in sorted(self.arguments.items()) if name not in hidden}


def extended(state: BuildState, *, key: str, created: str, created_by: str, empty_layer: bool) -> BuildState:
    """The state after a step, with the step in its history."""
    step = History(created=created, created_by=created_by, empty_layer=empty_layer)
    return msgspec.structs.replace(state, key=key, image_id="", created=created, history=(*state.history, step))
