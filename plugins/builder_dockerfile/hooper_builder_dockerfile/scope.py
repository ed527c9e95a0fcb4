"""A stage while it is being planned: its configuration, its variables, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from hooper.api.build_graph import ImageSource, Node
from hooper.api.builder import ResolvedImage
from hooper.api.model import ImageConfig
from hooper.api.registry import Platform
from hooper_builder_dockerfile.words import expand

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Scope:
    """What a stage has come to. `node` is its file system."""

    node: Node
    escape: str
    config: ImageConfig = field(default_factory=ImageConfig)
    """Its `env` is that of the beginning: `environment` has the variables."""
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    """Those declared so far that have a value."""
    command_set: bool = False
    """CMD stood in this stage."""
    author: str = ""
    architecture: str = ""
    variant: str = ""
    base: ImageSource | None = None
    lineage: tuple[str, ...] = ()
    """The labels of the stages that it is FROM, the first one first."""
    changed: bool = False
    """Anything was done to the base."""

    @classmethod
    def of_image(cls, image: ResolvedImage, node: Node, escape: str) -> Scope:
        scope = cls(
            node, escape, image.config, author=image.author, architecture=image.architecture, variant=image.variant
        )
        scope.base = node if isinstance(node, ImageSource) else None
        for item in image.config.env or ():
            name, _, value = item.partition("=")
            scope.environment[name] = value
        scope.environment.setdefault("PATH", DEFAULT_PATH)
        return scope

    @classmethod
    def empty(cls, node: Node, escape: str, platform: Platform) -> Scope:
        """What FROM scratch begins with."""
        scope = cls(node, escape, architecture=platform.architecture, variant=platform.variant)
        scope.environment["PATH"] = DEFAULT_PATH
        return scope

    def child(self) -> Scope:
        """What a stage FROM this one begins with; ARGs are inherited."""
        return replace(
            self, environment=dict(self.environment), arguments=dict(self.arguments), command_set=False,
        )  # fmt: skip

    def lookup(self, name: str) -> str | None:
        """ENV hides ARG."""
        value = self.environment.get(name)
        return self.arguments.get(name) if value is None else value

    def expand(self, text: str) -> str:
        return expand(text, self.lookup, self.escape) if text else ""

    def shell(self) -> Sequence[str]:
        return self.config.shell or DEFAULT_SHELL

    def nothing_run(self, text: str) -> str:
        """The history's words for a step that runs no command."""
        return f"{' '.join(self.shell())} #(nop) {text}"

    def run_arguments(self) -> dict[str, str]:
        """The arguments that a RUN sees, by name."""
        return {name: value for name, value in sorted(self.arguments.items()) if name not in self.environment}

    def variables(self) -> list[str]:
        return [f"{name}={value}" for name, value in self.environment.items()]

    def finished(self) -> ImageConfig:
        """The configuration of an image of this. One of a stage that does nothing is its base's."""
        if not self.changed and self.base is not None:
            return self.config
        return msgspec.structs.replace(self.config, env=self.variables())
