"""The part of the OCI runtime specification (config.md, config-linux.md) that hooper uses.

The core describes each container as a `Spec`; every isolation backend understands it. Encoded
with msgspec it is a `config.json` that runc accepts. Field names are the specification's.
"""

from __future__ import annotations

import msgspec


class _Struct(msgspec.Struct, rename="camel", omit_defaults=True):
    pass


class User(_Struct, kw_only=True):
    uid: int = 0
    gid: int = 0
    additional_gids: list[int] = []
    username: str = ""
    """"user[:group]", names or numbers, still to be looked up in the container's own /etc/passwd
    and /etc/group; empty when uid and gid are final. A backend resolves it before start."""
    group_names: list[str] = []
    """Supplementary groups to be looked up likewise (hooper's own field)."""


class Capabilities(_Struct, kw_only=True):
    """Names such as "CAP_CHOWN"."""

    bounding: list[str] = []
    effective: list[str] = []
    inheritable: list[str] = []
    permitted: list[str] = []
    ambient: list[str] = []


class Rlimit(_Struct, kw_only=True):
    type: str
    """"RLIMIT_NOFILE"…"""
    hard: int
    soft: int


class ConsoleSize(_Struct, kw_only=True):
    height: int
    width: int


class Process(_Struct, kw_only=True):
    args: list[str]
    cwd: str = "/"
    env: list[str] = []
    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = msgspec.field(default_factory=User)
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] = []
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: int | None = None


class Root(_Struct, kw_only=True):
    path: str
    readonly: bool = False


class Mount(_Struct, kw_only=True):
    destination: str
    type: str = ""
    source: str = ""
    options: list[str] = []


class Namespace(_Struct, kw_only=True):
    type: str
    """pid, network, mount, ipc, uts, user, cgroup."""
    path: str = ""
    """Join this one rather than make a new one."""


class IDMapping(_Struct, kw_only=True):
    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int


class Device(_Struct, kw_only=True):
    path: str
    type: str
    """c, b, u or p."""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(_Struct, kw_only=True):
    allow: bool
    type: str = ""
    """a, c or b."""
    major: int | None = None
    minor: int | None = None
    access: str = ""


class Memory(_Struct, kw_only=True):
    """Bytes; -1 is no limit."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    """Memory and swap together."""
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")


class CPU(_Struct, kw_only=True):
    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    cpus: str = ""
    mems: str = ""
    realtime_runtime: int | None = None
    realtime_period: int | None = None


class Pids(_Struct, kw_only=True):
    limit: int


class WeightDevice(_Struct, kw_only=True):
    major: int
    minor: int
    weight: int


class ThrottleDevice(_Struct, kw_only=True):
    major: int
    minor: int
    rate: int
    """Bytes or operations a second."""


class BlockIO(_Struct, kw_only=True):
    weight: int | None = None
    weight_device: list[WeightDevice] = []
    throttle_read_bps_device: list[ThrottleDevice] = []
    throttle_write_bps_device: list[ThrottleDevice] = []
    throttle_read_iops_device: list[ThrottleDevice] = msgspec.field(default=[], name="throttleReadIOPSDevice")
    throttle_write_iops_device: list[ThrottleDevice] = msgspec.field(default=[], name="throttleWriteIOPSDevice")


class Resources(_Struct, kw_only=True):
    devices: list[DeviceRule] = []
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = msgspec.field(default=None, name="blockIO")


class SyscallArg(_Struct, kw_only=True):
    index: int
    value: int
    op: str
    value_two: int = 0


class Syscall(_Struct, kw_only=True):
    names: list[str]
    action: str
    args: list[SyscallArg] = []
    errno_ret: int | None = None


class Seccomp(_Struct, kw_only=True):
    """OCI's seccomp object. Decoding Docker's profile files to it is the engine's work.

    A spec holds it encoded (`packed`): it names hundreds of system calls, and nearly all containers have the same, so
    that a backend need not unpack it to know that it has seen it before.
    """

    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] = []
    syscalls: list[Syscall] = []

    def packed(self) -> bytes:
        """As JSON, for `Linux.seccomp`."""
        return msgspec.json.encode(self)

    @classmethod
    def unpacked(cls, data: bytes) -> Seccomp:
        """The inverse."""
        return msgspec.json.decode(data, type=cls)


class Linux(_Struct, kw_only=True):
    namespaces: list[Namespace] = []
    uid_mappings: list[IDMapping] = []
    gid_mappings: list[IDMapping] = []
    devices: list[Device] = []
    cgroups_path: str = ""
    """Below each hierarchy's root: "/hooper/<id>"."""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    seccomp: bytes = b""
    """A packed `Seccomp`; empty for no filter."""
    sysctl: dict[str, str] = {}
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    mount_label: str = ""


class Spec(_Struct, kw_only=True):
    oci_version: str
    """"1.0.2"."""
    process: Process
    root: Root
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] = []
    annotations: dict[str, str] = {}
    linux: Linux = msgspec.field(default_factory=Linux)
