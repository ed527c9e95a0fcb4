"""System call filters: from OCI's seccomp object to a BPF program, through libseccomp.

The library is loaded only to compile. Installing a compiled filter is one prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from typing import Any

from hooper.api import oci
from hooper.api.errors import Internal, InvalidArgument, Unsupported
from hooper.linux import bpf
from hooper.linux import syscalls as sys

MODE_FILTER = 2
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ATTRIBUTE_BAD_ARCHITECTURE, _ATTRIBUTE_NNP, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE = 2, 3, 8, 2
_EPERM, _EEXIST, _ENOSYS = 1, 17, 38
_X32_BIT = 0x40000000


class Filter:
    """A compiled program, in memory as the kernel takes it: installing it is one call, here and in forks."""

    def __init__(self, program: bytes) -> None:
        """`program` is `struct sock_filter`s."""
        self.program = program
        self.length = len(program) // bpf.SIZE
        """In instructions."""
        self._code = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog
        self._head = ctypes.create_string_buffer(struct.pack("@HP", self.length, ctypes.addressof(self._code)))
        self._address = ctypes.addressof(self._head)

    def install(self) -> None:
        """Puts the calling process under the filter. It needs no_new_privs or CAP_SYS_ADMIN."""
        sys.prctl(sys.PR_SET_SECCOMP, MODE_FILTER, self._address)


_compiled: dict[bytes, Filter] = {}


def compile_filter(packed: bytes) -> Filter:
    """The filter of a packed `oci.Seccomp`; remembered in this process and its forks.

    Unsupported if libseccomp is missing, InvalidArgument for an action or comparison that it does not know.
    """
    found = _compiled.get(packed)
    if found is None:
        found = _compiled[packed] = Filter(_compile(oci.Seccomp.unpacked(packed)))
    return found


class _Argument(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def _library() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise Unsupported(
            "filtering system calls",
            "libseccomp.so.2 is missing on this host",
            "Install libseccomp2 (Debian's name), or run with --security-opt seccomp=unconfined.",
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    ]  # fmt: skip
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def _compile(seccomp: oci.Seccomp) -> bytes:
    library = _library()
    default = _action(seccomp.default_action, seccomp.default_errno_ret)
    context = library.seccomp_init(default)
    if not context:
        raise Internal("making a system call filter", "libseccomp refused the default action")
    try:
        for name in seccomp.architectures:
            _add_architecture(library, context, name)
        library.seccomp_attr_set(context, _ATTRIBUTE_NNP, 0)
        if seccomp.default_action == "SCMP_ACT_ERRNO":  # rather than the signal of libseccomp's default
            library.seccomp_attr_set(context, _ATTRIBUTE_BAD_ARCHITECTURE, _ACTIONS["SCMP_ACT_ERRNO"] | _ENOSYS)
        library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE)
        newest = 0
        for rule in seccomp.syscalls:
            newest = max(newest, _add_rule(library, context, rule, default))
        program = _export(library.seccomp_export_bpf, context)
    finally:
        library.seccomp_release(context)
    if seccomp.default_action == "SCMP_ACT_ERRNO":
        program = _unknown_calls(newest, program)
    return bpf.shrink(program)


def _add_architecture(library: Any, context: int, name: str) -> None:
    token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
    if not token:
        raise InvalidArgument(f'unknown seccomp architecture "{name}"')
    result = library.seccomp_arch_add(context, token)
    if result not in (0, -_EEXIST):
        raise Internal(f"adding the architecture {name} to a system call filter", os.strerror(-result))


def _action(name: str, errno_ret: int | None) -> int:
    if name not in _ACTIONS:
        raise InvalidArgument(f'unknown seccomp action "{name}"', remedy=f"There are {', '.join(_ACTIONS)}.")
    data = (_EPERM if errno_ret is None else errno_ret) if name in _WITH_DATA else 0
    return _ACTIONS[name] | data & 0xFFFF


def _add_rule(library: Any, context: int, rule: oci.Syscall, default: int) -> int:
    """Adds a rule for each name that the library knows, and returns the highest number among them."""
    action = _action(rule.action, rule.errno_ret)
    numbers = [n for n in map(library.seccomp_syscall_resolve_name, map(str.encode, rule.names)) if n != -1]
    if action != default:  # libseccomp refuses a rule that says what the default says
        for number in numbers:
            for group in _groups(rule.args):
                _add(library, context, action, number, group)
    return max(numbers, default=0)


def _groups(args: list[oci.SyscallArg]) -> list[list[oci.SyscallArg]]:
    """Conditions of one argument are alternatives, those of different arguments hold together (as runc reads it)."""
    if len({arg.index for arg in args}) < len(args):
        return [[arg] for arg in args]
    return [args]


def _add(library: Any, context: int, action: int, number: int, args: list[oci.SyscallArg]) -> None:
    array = (_Argument * len(args))()
    for place, arg in zip(array, args, strict=True):
        if arg.op not in _OPERATORS:
            raise InvalidArgument(
                f'unknown seccomp comparison "{arg.op}"', remedy=f"There are {', '.join(_OPERATORS)}."
            )
        place.index, place.operator, place.value, place.second = arg.index, _OPERATORS[arg.op], arg.value, arg.value_two
    result = library.seccomp_rule_add_array(context, action, number, len(args), ctypes.byref(array))
    if result < 0:
        raise InvalidArgument(f"adding system call {number} to a filter", os.strerror(-result))


def _export(export: Callable[[int, int], int], context: int) -> bytes:
    fd = os.memfd_create("seccomp")
    try:
        result = export(context, fd)
        if result < 0:
            raise Internal("compiling a system call filter", os.strerror(-result))
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _unknown_calls(newest: int, program: bytes) -> bytes:
    """Lets calls that are newer than the profile fail with ENOSYS, for which C libraries have a fallback.

    From 403 on, numbers are the same on all architectures; x32's have a bit of their own.
    """
    if newest < 403:
        return program
    prefix = [
        bpf.Instruction(bpf.LOAD, 0, 0, bpf.NUMBER),
        bpf.Instruction(bpf.JUMP_GE, 0, 2, newest + 1),
        bpf.Instruction(bpf.JUMP_GE, 1, 0, _X32_BIT),
        bpf.Instruction(bpf.RETURN, 0, 0, _ACTIONS["SCMP_ACT_ERRNO"] | _ENOSYS),
    ]
    return bpf.encode(prefix) + program
