"""Which devices a cgroup may use: OCI's rules as a default with exceptions and, for cgroup v2, as a program.

(Kernel: Documentation/admin-guide/cgroup-v1/devices.rst, and `struct bpf_cgroup_dev_ctx` in linux/bpf.h.)
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

from hooper.api import oci
from hooper.linux.defaults import DEVICES
from hooper.linux.syscalls import bpf

Device = tuple[str, int | None, int | None]
"""(b or c, major, minor); None is any."""


class DevicePolicy(NamedTuple):
    allow: bool
    """What holds for all devices but the exceptions."""
    exceptions: dict[Device, str]
    """The access, of "rwm", that is treated the other way."""


def reduce(rules: Iterable[oci.DeviceRule]) -> DevicePolicy:
    """Applies rules in order, as the kernel's v1 controller does.

    The nodes that every container has, and its terminals, stay usable whatever the rules say.
    """
    allow = True
    exceptions: dict[Device, str] = {}
    for rule in rules:
        kind = rule.type or "a"
        if kind == "a" and rule.major in (None, -1) and rule.minor in (None, -1):
            allow, exceptions = rule.allow, {}
            continue
        for each in "bc" if kind == "a" else kind:
            _except(exceptions, (each, _any(rule.major), _any(rule.minor)), rule, allow=allow)
    if not allow:
        for device in _STANDARD:
            exceptions[device] = "rwm"
    return DevicePolicy(allow, exceptions)


_STANDARD: list[Device] = [
    *(("c", major, minor) for _, major, minor in DEVICES),
    ("c", 5, 1),
    ("c", 5, 2),
    ("c", 136, None),
]


def _any(number: int | None) -> int | None:
    return None if number is None or number < 0 else number


def _except(exceptions: dict[Device, str], device: Device, rule: oci.DeviceRule, *, allow: bool) -> None:
    access = rule.access or "rwm"
    present = exceptions.get(device, "")
    if rule.allow != allow:
        exceptions[device] = "".join(c for c in "rwm" if c in present or c in access)
    else:
        left = "".join(c for c in present if c not in access)
        exceptions.pop(device, None)
        if left:
            exceptions[device] = left


def v1_line(device: Device, access: str) -> bytes:
    """A line for devices.allow or devices.deny."""
    kind, major, minor = device
    return f"{kind} {'*' if major is None else major}:{'*' if minor is None else minor} {access}".encode()


# --- the program ----------------------------------------------------------------------------------

_LDX_W, _AND, _RSH, _MOV_REG, _MOV, _JNE, _JNE_REG, _JEQ, _EXIT = 0x61, 0x57, 0x77, 0xBF, 0xB7, 0x55, 0x5D, 0x15, 0x95
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


def _op(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, dst | src << 4, offset, value)


def assemble(policy: DevicePolicy) -> bytes:
    """eBPF that returns 1 for an access that the policy allows, else 0.

    Registers: 2 type, 3 access, 4 major, 5 minor, 6 scratch.
    """
    code = [
        _op(_LDX_W, 2, 1, 0),
        _op(_MOV_REG, 3, 2),
        _op(_AND, 2, value=0xFFFF),
        _op(_RSH, 3, value=16),
        _op(_LDX_W, 4, 1, 4),
        _op(_LDX_W, 5, 1, 8),
    ]
    for device, access in policy.exceptions.items():
        code += _exception(device, access, allow=policy.allow)
    return b"".join([*code, _op(_MOV, 0, value=int(policy.allow)), _op(_EXIT)])


def _exception(device: Device, access: str, *, allow: bool) -> list[bytes]:
    kind, major, minor = device
    bits = sum(_ACCESS[c] for c in access)
    verdict = [_op(_MOV, 0, value=int(not allow)), _op(_EXIT)]
    # Where all is denied, an exception must cover all that is asked for; where all is allowed, any part counts.
    block = [_op(_MOV_REG, 6, 3), _op(_AND, 6, value=bits)]
    block.append(_op(_JEQ, 6, offset=2, value=0) if allow else _op(_JNE_REG, 6, 3, offset=2))
    block += verdict
    for register, wanted in ((5, minor), (4, major), (2, _TYPES[kind])):
        if wanted is not None:
            block.insert(0, _op(_JNE, register, offset=len(block), value=wanted))
    return block


# --- loading it -----------------------------------------------------------------------------------

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2
_MAX_PROGRAMS = 64


def _attributes(layout: str, *values: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack(layout, *values).ljust(128, b"\0"), 128)


def attach(cgroup: int, policy: DevicePolicy) -> None:
    """Makes the policy that of the cgroup v2 directory `cgroup`, in the place of earlier ones.

    OSError if the kernel lacks CONFIG_CGROUP_BPF or the caller the right to load programs.
    """
    code = assemble(policy)
    text = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    load = _attributes(
        "=IIQQ", _PROG_TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(text), ctypes.addressof(licence)
    )
    program = bpf(_PROG_LOAD, load)
    try:
        earlier = _attached(cgroup)
        bpf(_PROG_ATTACH, _attributes("=IIII", cgroup, program, _ATTACH_DEVICE, _ALLOW_MULTI))
        for number in earlier:
            _detach(cgroup, number)
    finally:
        os.close(program)


def _attached(cgroup: int) -> list[int]:
    ids = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    query = _attributes("=IIIIQI", cgroup, _ATTACH_DEVICE, 0, 0, ctypes.addressof(ids), _MAX_PROGRAMS)
    bpf(_PROG_QUERY, query)
    (count,) = struct.unpack_from("=I", query.raw, 24)
    return list(ids[:count])


def _detach(cgroup: int, number: int) -> None:
    program = bpf(_PROG_GET_FD_BY_ID, _attributes("=I", number))
    try:
        bpf(_PROG_DETACH, _attributes("=III", cgroup, program, _ATTACH_DEVICE))
    finally:
        os.close(program)
