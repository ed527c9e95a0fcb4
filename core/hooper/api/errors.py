"""The few kinds of error that hooper has.

Every error says three things: *what* was tried, *why* it failed and what to do about it (the
*remedy*). A kind has one meaning everywhere; front-ends map kinds to a status and the command
line maps them to an exit code, each in one place. Drivers raise these kinds, never bare OSErrors,
for everything that a user can cause or mend.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class HooperError(Exception):
    """The base of all kinds.

    `what` names the thing and what was tried with it, `why` is the cause, `remedy` is a sentence
    that tells the reader what to do. `str()` joins the three.
    """

    kind: ClassVar[str] = "internal"

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}\n{self.remedy}" if self.remedy else text


class InvalidArgument(HooperError):
    """The request itself is wrong, whatever the state of the engine."""

    kind = "invalid-argument"


class Unauthorized(HooperError):
    """Credentials are missing or refused."""

    kind = "unauthorized"


class Forbidden(HooperError):
    """The caller is known and may not do this."""

    kind = "forbidden"


class NotFound(HooperError):
    """The named thing does not exist."""

    kind = "not-found"


class Conflict(HooperError):
    """The thing's present state, or another thing, stands in the way."""

    kind = "conflict"


class NotModified(HooperError):
    """The thing is already as asked for (start of a running container)."""

    kind = "not-modified"


class Unavailable(HooperError):
    """Something outside this engine (a registry, a monitor) does not answer now."""

    kind = "unavailable"


class Unsupported(HooperError):
    """This host or the chosen driver cannot do that."""

    kind = "unsupported"


class DataLoss(HooperError):
    """Content is not what its digest or size says."""

    kind = "data-loss"


class StartFailed(InvalidArgument):
    """A container's first process or an exec could not be executed.

    `exit_code` is the code that a shell would give: 127 not found, 126 not executable, else 128.
    """

    kind = "start-failed"

    def __init__(self, what: str, why: str = "", remedy: str = "", exit_code: int = 128) -> None:
        super().__init__(what, why, remedy)
        self.exit_code = exit_code


class StepFailed(InvalidArgument):
    """A command of a build ended with another exit code than 0, which is `exit_code`."""

    kind = "step-failed"

    def __init__(self, what: str, why: str = "", remedy: str = "", exit_code: int = 1) -> None:
        super().__init__(what, why, remedy)
        self.exit_code = exit_code


class SkipDriver(HooperError):
    """Raised by a driver's `probe`: it cannot work on this host, and why."""

    kind = "skip-driver"


class NoSpace(HooperError):
    """A disk of the host, or what somebody may use of it, is full."""

    kind = "no-space"


def no_space(error: BaseException, what: str = "cannot write") -> NoSpace | None:
    """What a system's error means if that is a full disk; None if it is another one."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    place = f"{what} {error.filename}" if isinstance(error.filename, str) else what
    return NoSpace(place, (error.strerror or str(error)).lower(), FREE_SPACE)


FREE_SPACE = "Free some: `hooper system df` shows what takes it, `hooper system prune` removes what nothing uses."


class Internal(HooperError):
    """A fault of hooper itself or of the host."""

    kind = "internal"


def _kinds(base: type[HooperError]) -> dict[str, type[HooperError]]:
    """A subclass without a `kind` of its own stands for no kind."""
    found = {base.kind: base} if "kind" in vars(base) else {}
    for child in base.__subclasses__():
        found |= _kinds(child)
    return found


def _encodable(text: str) -> str:
    """Undecodable bytes of file names, which Python keeps as lone surrogates, cannot be encoded as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def to_wire(error: BaseException) -> dict[str, str | int]:
    """An error as a mapping that `from_wire` turns back into the same kind."""
    error = no_space(error) or error
    if not isinstance(error, HooperError):
        return {"kind": "internal", "what": _encodable(f"{type(error).__name__}: {error}")}
    wire: dict[str, str | int] = {
        "kind": error.kind,
        "what": _encodable(error.what),
        "why": _encodable(error.why),
        "remedy": _encodable(error.remedy),
    }
    if isinstance(error, StartFailed | StepFailed):
        wire["exit_code"] = error.exit_code
    return wire


def from_wire(wire: dict[str, str | int]) -> HooperError:
    """The error that `to_wire` described; an unknown kind becomes Internal."""
    what, why, remedy = (str(wire.get(key, "")) for key in ("what", "why", "remedy"))
    kind = _kinds(HooperError).get(str(wire.get("kind")), Internal)
    if issubclass(kind, StartFailed | StepFailed) and "exit_code" in wire:
        return kind(what, why, remedy, int(wire["exit_code"]))
    if kind is HooperError:
        kind = Internal
    return kind(what, why, remedy)
