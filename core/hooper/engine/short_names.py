"""Names without a registry, where the configuration says in which registries they are looked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hooper.api.errors import HooperError, InvalidArgument, NotFound, Unauthorized, Unavailable
from hooper.api.reference import DEFAULT_HOST, Reference, registry_of

FIRST, UNIQUE = "first", "unique"


def candidates(text: str, places: Sequence[str]) -> list[Reference]:
    """What `text` may mean, in order of the places (HOST[:PORT][/PREFIX]); one with a registry means itself alone."""
    given = Reference.parse(text)
    if not places or registry_of(text):
        return [given]
    found = [Reference.parse(f"{place.strip('/')}/{text}") for place in places]
    return [_in_library(one) for one in found]


def _in_library(reference: Reference) -> Reference:
    """Docker Hub's own, also where it is written out: docker.io/busybox."""
    return Reference.parse(str(reference)) if reference.host == DEFAULT_HOST else reference


class ShortNames:
    """`places` are tried in order. The first that has a name gives it; with `mode` "unique" it must be the only one."""

    def __init__(self, places: Sequence[str] = (), mode: str = FIRST) -> None:
        if mode not in (FIRST, UNIQUE):
            raise InvalidArgument(
                f'configuration key "registry.short_names": "{mode}" is unknown', remedy=f"Write {FIRST} or {UNIQUE}."
            )
        self.places, self._mode = places, mode

    async def find(self, text: str, look: Callable[[Reference], Awaitable[object]]) -> Reference:
        """The one reference that `text` means. `look` raises if a registry does not have it.

        Unavailable if a registry that comes first cannot be asked: what a later one has under the name may be somebody
        else's. InvalidArgument if several have it and that is not wanted; NotFound or Unauthorized if none has it.
        """
        possible = candidates(text, self.places)
        if len(possible) == 1 and (self._mode == FIRST or not self.places or registry_of(text)):
            return possible[0]
        having: list[Reference] = []
        failures: list[HooperError] = []
        for reference in possible:
            try:
                await look(reference)
            except (NotFound, Unauthorized) as error:
                failures.append(error)
            except Unavailable as error:
                raise Unavailable(
                    f'the short name "{text}" is ambiguous',
                    f"{reference.host} comes first, and it cannot be asked ({error.what}: {error.why})",
                    "Write the whole name, with its registry.",
                ) from error
            else:
                having.append(reference)
                if self._mode == FIRST:
                    break
        if not having:
            raise _nowhere(text, failures)
        if len(having) > 1:
            names = ", ".join(one.familiar for one in having)
            raise InvalidArgument(
                f'the short name "{text}" is ambiguous', f"there are {names}", "Write the whole name."
            )
        return having[0]


def _nowhere(text: str, failures: Sequence[HooperError]) -> HooperError:
    kind = NotFound if all(isinstance(error, NotFound) for error in failures) else Unauthorized
    why = "; ".join(error.what for error in failures)
    return kind(f'no registry has "{text}"', why, "Write the whole name, with its registry, or log in.")
