"""Begins a script (`hooper.linux.script`) and looks at how it went.

The machine code is a function spawn(struct clone_args *, size, first step), assembled from

        push rbx                        # x86-64; rbx is the step at hand,
        push r12                        # r12 the first one
        mov  rbx, rdx
        mov  r12, rdx
        mov  eax, 435                   # clone3(2)
        syscall
        test rax, rax
        jz   next                       # the new process, which has no stack
        pop  r12
        pop  rbx
        ret
    next:
        mov  eax, [rbx]                 # the call, and its arguments
        movsxd rdi, dword ptr [rbx+4]
        movsxd rsi, dword ptr [rbx+8]
        movsxd rdx, dword ptr [rbx+12]
        movsxd r10, dword ptr [rbx+16]
        movsxd r8, dword ptr [rbx+20]
        movsxd r9, dword ptr [rbx+24]
        syscall
        mov  [rbx+28], eax              # the result, which is accepted
        cmp  eax, [rbx+32]              # from here
        jl   other
        cmp  eax, [rbx+36]              # to here
        jg   other
        movsxd rax, dword ptr [rbx+40]
        add  rbx, rax
        jmp  next
    other:
        cmp  eax, [rbx+44]              # or if it is this one
        jne  failed
        movsxd rax, dword ptr [rbx+48]
        add  rbx, rax
        jmp  next
    failed:
        mov  [r12-8], rbx               # which step it was
        mov  edi, 1
        mov  eax, 231                   # exit_group(2)
        syscall
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from array import array
from collections.abc import Collection, Mapping
from functools import cache

from hooper.linux.script import NOTHING, POINTER, RESULT, STEP, WORD, Program, Writer

_CODE: Mapping[str, str] = {
    "x86_64": """
        5341544889d34989d4b8b30100000f054885c07404415c5bc3
        8b0348637b04486373084863530c4c635310
        4c6343144c634b180f0589431c3b43207c0e3b43247f09486343284801c3ebce
        3b432c7509486343304801c3ebc0
        49895c24f8bf01000000b8e70000000f05
    """
}
_SIGNAL_SET = 128
"""Bytes of the C library's sigset_t."""
_SIG_BLOCK, _SIG_SETMASK = int(signal.SIG_BLOCK), int(signal.SIG_SETMASK)
_CLONE_VM = 0x100
_CLONE_INTO_CGROUP = 0x200000000
_FIELDS = (
    "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
    "set_tid_size", "cgroup",
)  # fmt: skip


class _CloneArgs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in _FIELDS]


_STEPS = 8
"""Where in the memory the steps begin: behind the address of the one that has failed."""
_MAP_32BIT = 0x40


class Script:
    """A program in this process's memory, and the process that carries it out once it has been begun."""

    def __init__(self, program: Program, slots: Mapping[str, int]) -> None:
        """`slots` are filled in; those of the program that are missing stay to be set by `fill`."""
        self._program = program
        end = _STEPS + len(program.steps)
        self._data = end + -end % POINTER
        size = self._data + len(program.data) + program.room
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_32BIT)
        self._view = ctypes.c_char.from_buffer(self._memory)
        start = ctypes.addressof(self._view)
        self._steps = start + _STEPS
        self._memory[_STEPS:end] = program.steps
        self._memory[self._data : self._data + len(program.data)] = program.data
        self._fill(program, start + self._data, slots)
        self.pid = 0

    def _fill(self, program: Program, base: int, slots: Mapping[str, int]) -> None:
        """In place: copies would be memory that a monitor keeps."""
        with memoryview(self._memory) as memory:
            with memory[_STEPS : _STEPS + len(program.steps)].cast("i") as words:
                for place in array("I", program.pointers):
                    words[place] += base
                for name, value in slots.items():
                    for place in program.slots.get(name, ()):
                        words[place] = value
            with memory[self._data : self._data + len(program.data)].cast("q") as data:
                for place in array("I", program.data_pointers):
                    data[place] += base

    def begin(self, flags: int, cgroup: int | None = None) -> None:
        """Lets a new process carry it out; `flags` are CLONE_NEW*, `cgroup` a descriptor of a cgroup v2 to be born in.

        The process has all signals blocked. OSError if there can be none.
        """
        arguments = _CloneArgs(flags=flags | _CLONE_VM, exit_signal=int(signal.SIGCHLD))
        if cgroup is not None:
            arguments.flags |= _CLONE_INTO_CGROUP
            arguments.cgroup = cgroup
        self.pid = _spawn().begin(arguments, self._steps)

    @property
    def open_slots(self) -> Collection[str]:
        """Names of all that the program leaves to be filled in."""
        return self._program.slots

    def fill(self, slot: str, value: int) -> None:
        """Fills a slot in that no step has used yet."""
        for place in self._program.slots.get(slot, ()):
            start = _STEPS + place * WORD
            self._memory[start : start + WORD] = value.to_bytes(WORD, "little", signed=True)

    def address(self, place: str) -> int:
        """Where a place of the program is, for a slot that is to point to it."""
        return self._steps - _STEPS + self._data + self._program.places[place]

    def has(self, place: str) -> bool:
        """Whether the program has such a place."""
        return place in self._program.places

    def put(self, place: str, content: bytes) -> None:
        """Writes to a place of the program."""
        start = self._data + self._program.places[place]
        self._memory[start : start + len(content)] = content

    def read(self, place: str, size: int) -> bytes:
        """What is at a place of the program."""
        start = self._data + self._program.places[place]
        return self._memory[start : start + size]

    def result(self, mark: str) -> int | None:
        """What a step returned, below 0 the errno; None if it was not made, or has not returned."""
        found = self._word(_STEPS + (self._program.marks[mark] + RESULT) * WORD)
        return None if found == NOTHING else found

    def _word(self, start: int) -> int:
        return int.from_bytes(self._memory[start : start + WORD], "little", signed=True)

    def failure(self) -> tuple[int, int] | None:
        """What ended it: a call's number, and what that returned; None if nothing has."""
        address = int.from_bytes(self._memory[:_STEPS], "little")
        if not address:
            return None
        start = _STEPS + address - self._steps
        return self._word(start), self._word(start + RESULT * WORD)

    def close(self) -> None:
        """Gives the memory back: the process has ended, or has executed its program. Harmless twice."""
        if not self._memory.closed:
            del self._view
            self._memory.close()


class _Spawn:
    """The machine code."""

    def __init__(self, code: bytes) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory[: len(code)] = code
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        kind = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        self._call = kind(address)
        # Python's own takes a tenth of a millisecond, to make members of an enumeration.
        self._set_mask = ctypes.PyDLL(None).pthread_sigmask
        self._set_mask.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p]
        self._before = ctypes.create_string_buffer(_SIGNAL_SET)

    def begin(self, arguments: _CloneArgs, step: int) -> int:
        """The pid of the process, which has all signals blocked: a handler would need a stack."""
        self._set_mask(_SIG_BLOCK, b"\xff" * _SIGNAL_SET, self._before)
        try:
            result: int = self._call(ctypes.addressof(arguments), ctypes.sizeof(arguments), step)
        finally:
            self._set_mask(_SIG_SETMASK, self._before, None)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result


@cache
def _spawn() -> _Spawn:
    return _Spawn(bytes.fromhex(_CODE[os.uname().machine]))


@cache
def available() -> bool:
    """Whether scripts run here; tried once in this process and its forks.

    They do not on other processors than those that there is code for, where memory may not be made executable, or
    where a sandbox forbids clone3(2).
    """
    try:
        writer = Writer(os.uname().machine)
        writer.call("umask", 0o22, accept=(0, 0o777))
        writer.call("close", -1)  # fails, and so ends it
        script = Script(writer.program(), {})
        try:
            script.begin(0)
            _wait(script.pid)
            return script.failure() is not None
        finally:
            script.close()
    except (OSError, KeyError):
        return False


def _wait(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored: it has ended, and its status is lost


assert STEP == 52, "the machine code knows the size of a step"
