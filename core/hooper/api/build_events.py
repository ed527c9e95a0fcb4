"""What a build tells while it goes on. Times are nanoseconds since the epoch.

Steps are named by their number in `Planned.steps`. Those of one build may overlap; of one step the order is
StepStarted, any of StepOutput and StepStatus, then StepDone or StepFailed. Configuration steps are StepDone at once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hooper.api.build_graph import Origin


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    shown: str
    stage: str
    origin: Origin | None = None
    configures: bool = False
    """It changes no file."""


class Planned(msgspec.Struct, frozen=True, kw_only=True, tag="planned"):
    """The recipe is understood."""

    steps: tuple[PlannedStep, ...]


class ContextReceived(msgspec.Struct, frozen=True, kw_only=True, tag="context"):
    """The context is here: its files and bytes, and how many bytes had to be sent."""

    files: int
    size: int
    sent: int
    began: int
    at: int


class StepStarted(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    step: int
    at: int


class StepOutput(msgspec.Struct, frozen=True, kw_only=True, tag="output"):
    """What a command has written: `stream` is 1 or 2."""

    step: int
    stream: int
    data: bytes
    at: int


class StepStatus(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """How far a download of a step is."""

    step: int
    text: str
    current: int = 0
    total: int = 0
    at: int = 0


class StepDone(msgspec.Struct, frozen=True, kw_only=True, tag="done", omit_defaults=True):
    step: int
    at: int
    cached: bool = False
    configured: bool = False
    result: str = ""
    """A short name of the state: chain id of the file system."""


class StepFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", omit_defaults=True):
    step: int
    at: int
    error: str
    exit_code: int = 0
    output: str = ""
    """The last lines that its command wrote."""
    debug_image: str = ""
    """With `BuildRequest.debug`: an untagged image of the state before the step. The client removes it."""
    debug_args: tuple[str, ...] = ()
    """The command that failed."""


class Pulling(msgspec.Struct, frozen=True, kw_only=True, tag="pull"):
    """A progress message of a pull or a push (`hooper.api.engine.Images.pull`)."""

    message: dict[str, Any]


class Warned(msgspec.Struct, frozen=True, kw_only=True, tag="warning"):
    rule: str
    message: str
    url: str = ""
    origin: Origin | None = None


class Noted(msgspec.Struct, frozen=True, kw_only=True, tag="note"):
    """A line for a person."""

    text: str


class Exported(msgspec.Struct, frozen=True, kw_only=True, tag="exported", omit_defaults=True):
    """An outcome is complete."""

    type: str = msgspec.field(name="output")
    """Of the output; on the wire it is "output", for "type" is the event's."""
    image_id: str = ""
    names: tuple[str, ...] = ()
    digest: str = ""
    at: int = 0


BuildEvent = (
    Planned | ContextReceived | StepStarted | StepOutput | StepStatus | StepDone | StepFailed
    | Pulling | Warned | Noted | Exported
)  # fmt: skip
