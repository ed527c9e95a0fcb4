"""System calls that a new process makes one after the other, without an interpreter.

A forked interpreter copies hundreds of pages, and takes longer over each call than the kernel does. A script is written
where there is time for it (`Writer`), travels as a `Program`, and is carried out by a process that shares the memory of
the one that begins it (`hooper.linux.script_run`), has no stack and runs a hundred bytes of machine code.

A script has no variables: descriptors get the lowest free number, so whoever writes it knows them, and each step says
which results it accepts. It ends with an execve(2), or at the first step whose result is another one.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

WORD, POINTER = 4, 8
"""Bytes of a word of a step, and of a pointer in a structure: steps point to memory below 2 GiB."""
STEP_WORDS = 13
STEP = STEP_WORDS * WORD
"""Bytes of a step. Its words, all signed: number of the call, six arguments, result, the range of results to accept
(two words) and how far the next step is then, one more result to accept and how far the next step is then."""
RESULT, NEXT, NEXT_OTHER = 7, 10, 12
"""Which word of a step is which."""
ANY = (0, (1 << 31) - 1)
"""Every result but an error."""
NEVER = (1, 0)
"""No result: for a call that does not return."""
NOTHING = -1 << 31
"""What no call returns: the result of one that was not made, and an `other` that does not happen."""

NUMBERS: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "rt_sigaction": 13, "rt_sigprocmask": 14, "execve": 59, "chdir": 80,
        "fchdir": 81, "umask": 95, "setsid": 112, "setgroups": 116, "setresuid": 117, "setresgid": 119, "capset": 126,
        "pivot_root": 155, "prctl": 157, "mount": 165, "umount2": 166, "sethostname": 170, "setdomainname": 171,
        "openat": 257, "mkdirat": 258, "mknodat": 259, "symlinkat": 266, "faccessat": 269, "unshare": 272, "dup3": 292,
        "prlimit64": 302, "setns": 308, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
        "fsmount": 432, "close_range": 436, "openat2": 437, "mount_setattr": 442,
    }
}  # fmt: skip
"""System calls by name, by `os.uname().machine`."""


class Program(msgspec.Struct):
    """A script that is written, to be loaded at any address."""

    steps: bytes
    """Of `STEP_WORDS` each."""
    data: bytes
    """What the steps point to."""
    room: int
    """Bytes behind the data that the steps write to."""
    pointers: bytes
    """uint32: which words of the steps are distances from the data's beginning, to be made addresses."""
    data_pointers: bytes
    """The same for what has the size of a pointer in the data."""
    slots: dict[str, list[int]]
    """Words of the steps that who runs it is to fill in, by the name of what belongs there."""
    places: dict[str, int]
    """Distances from the data's beginning, of what is to be filled in or read by who runs it, by name."""
    marks: dict[str, int]
    """Steps by name: their first word."""


class Pointer(int):
    """A distance from the data's beginning, in bytes."""


class Room(int):
    """A distance from the data's end, in bytes."""


class Slot(str):
    """An argument that who runs the script fills in."""


Argument = int | str | bytes | Pointer | Room | Slot


class Writer:
    """Writes steps. Texts among the arguments become pointers to their copies in the data, which end with a zero."""

    def __init__(self, machine: str) -> None:
        """KeyError where there are no scripts for that machine."""
        self._numbers = NUMBERS[machine]
        self._words: list[int] = []
        self._data = bytearray()
        self._texts: dict[bytes, Pointer] = {}
        self._pointers: list[int] = []
        self._data_pointers: list[int] = []
        self._into_room: list[int] = []
        self._slots: dict[str, list[int]] = {}
        self._places: dict[str, int] = {}
        self._marks: dict[str, int] = {}
        self._room = 0
        self._open = {0, 1, 2}

    # --- what steps point to ---

    def text(self, text: str | bytes, name: str = "") -> Pointer:
        """The place of a text, which is there once however often it is asked for."""
        raw = os.fsencode(text) if isinstance(text, str) else text
        found = self._texts.get(raw)
        if found is None:
            found = self._texts[raw] = Pointer(len(self._data))
            self._data += raw
            self._data.append(0)
        if name:
            self._places[name] = found
        return found

    def block(self, content: bytes, name: str = "") -> Pointer:
        """A structure, at a multiple of a pointer's size."""
        self._data += bytes(-len(self._data) % POINTER)
        place = Pointer(len(self._data))
        self._data += content
        if name:
            self._places[name] = place
        return place

    def vector(self, pointers: Sequence[Pointer]) -> Pointer:
        """An array of pointers, which ends with a null pointer."""
        place = self.block(array("q", [*pointers, 0]).tobytes())
        self.points(place, len(pointers))
        return place

    def points(self, place: Pointer, count: int = 1) -> None:
        """From `place` on, the data has so many pointers."""
        first = place // POINTER
        self._data_pointers += range(first, first + count)

    def room(self, size: int, name: str) -> Room:
        """Space that a step writes to."""
        place = Room(self._room)
        self._room += size + -size % POINTER
        self._places[name] = -1 - place  # until the data's size is known
        return place

    # --- descriptors ---

    def opened(self) -> int:
        """The number that the next descriptor gets."""
        number = 0
        while number in self._open:
            number += 1
        self._open.add(number)
        return number

    def taken(self, number: int) -> None:
        """A descriptor has that number from now on."""
        self._open.add(number)

    def close(self, number: int) -> None:
        """close(2)."""
        self._open.remove(number)
        self.call("close", number)

    # --- steps ---

    def call(
        self,
        name: str,
        *arguments: Argument,
        accept: tuple[int, int] = (0, 0),
        other: int = NOTHING,
        mark: str = "",
    ) -> int:
        """Adds a step, and returns its number. Results from `accept[0]` to `accept[1]`, and `other`, let it go on."""
        words = self._words
        first = len(words)
        words.append(self._numbers[name])
        for argument in arguments:
            words.append(self._word(argument, len(words)))
        words += [0] * (6 - len(arguments))
        words += (NOTHING, *accept, STEP, other, STEP)
        if mark:
            self._marks[mark] = first
        return first // STEP_WORDS

    def _word(self, argument: Argument, place: int) -> int:
        kind = type(argument)
        if kind is int:
            return argument  # type: ignore[return-value]
        if kind is str or kind is bytes:
            self._pointers.append(place)
            return self.text(argument)  # type: ignore[arg-type]
        if kind is Pointer:
            self._pointers.append(place)
            return argument  # type: ignore[return-value]
        if kind is Room:
            self._into_room.append(place)
            return argument  # type: ignore[return-value]
        self._slots.setdefault(argument, []).append(place)  # type: ignore[arg-type]
        return 0

    def open(self, name: str, *arguments: Argument, other: int = NOTHING, mark: str = "") -> int:
        """Adds a step that opens a descriptor, and returns that."""
        number = self.opened()
        self.call(name, *arguments, accept=(number, number), other=other, mark=mark)
        return number

    def skip(self, step: int, *, other: bool) -> None:
        """Lets that step be followed by the one that is written next, if its result was in the range, or `other`."""
        distance = (len(self._words) // STEP_WORDS - step) * STEP
        self._words[step * STEP_WORDS + (NEXT_OTHER if other else NEXT)] = distance

    @contextmanager
    def unless_other(self, step: int) -> Iterator[None]:
        """What is written within is passed over if that step had its `other` result."""
        yield
        self.skip(step, other=True)

    @contextmanager
    def if_other(self, step: int) -> Iterator[None]:
        """What is written within is passed over unless that step had its `other` result."""
        yield
        self.skip(step, other=False)

    @property
    def size(self) -> int:
        """Steps so far."""
        return len(self._words) // STEP_WORDS

    def program(self) -> Program:
        """What has been written."""
        self._data += bytes(-len(self._data) % POINTER)
        end = len(self._data)
        for place in self._into_room:
            self._words[place] += end
        return Program(
            steps=array("i", self._words).tobytes(),
            data=bytes(self._data),
            room=self._room,
            pointers=array("I", [*self._pointers, *self._into_room]).tobytes(),
            data_pointers=array("I", self._data_pointers).tobytes(),
            slots={str(name): places for name, places in self._slots.items()},
            places={name: int(place if place >= 0 else end - 1 - place) for name, place in self._places.items()},
            marks=self._marks,
        )
