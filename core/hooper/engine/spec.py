"""From a container's configuration to its OCI runtime spec: Docker's defaults, then what was asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hooper.api import oci
from hooper.api.errors import InvalidArgument
from hooper.api.model import Container, HostConfig, ThrottleDevice, Ulimit
from hooper.engine import devices as devices_of
from hooper.linux import apparmor, capabilities, defaults
from hooper.linux.seccomp_default import packed_profile

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 << 20
CGROUP_PARENT = "/hooper"
OCI_VERSION = "1.0.2"
NO_SHM = "none"


def build(
    container: Container,
    rootfs: Path,
    mounts: Sequence[oci.Mount],
    *,
    architecture: str,
    namespaces: dict[str, str],
    shm: str = "",
) -> oci.Spec:
    """The whole document. `mounts` come after the default ones; `namespaces` are paths of those that are
    joined instead of made, "host" for those that are the host's (pid, ipc, uts, cgroup, network). `shm` is
    the directory of this host that is its /dev/shm, "" for a new one, "none" for none."""
    config, host = container.config, container.host_config
    caps = capability_set(host)
    return oci.Spec(
        oci_version=OCI_VERSION,
        process=_process(container, caps),
        root=oci.Root(path=str(rootfs), readonly=host.readonly_rootfs),
        hostname="" if namespaces.get("uts") == "host" else config.hostname,
        domainname="" if namespaces.get("uts") == "host" else config.domainname,
        mounts=[*_default_mounts(host, shm), *mounts],
        annotations=host.annotations or {},
        linux=oci.Linux(
            namespaces=_namespaces(namespaces),
            devices=devices_of.nodes(host),
            cgroups_path=cgroups_path(container),
            resources=resources(host, devices=True),
            seccomp=_seccomp(host, caps, architecture),
            sysctl=_sysctls(host),
            masked_paths=_paths(host.masked_paths, defaults.MASKED_PATHS, host),
            readonly_paths=_paths(host.readonly_paths, defaults.READONLY_PATHS, host),
        ),
    )


def cgroups_path(container: Container) -> str:
    """Below each hierarchy's root, which --cgroup-parent cannot leave."""
    parent = container.host_config.cgroup_parent
    place = os.path.normpath("/" + parent.lstrip("/")) if parent else CGROUP_PARENT
    return f"{place.rstrip('/')}/{container.id}"


def _sysctls(host: HostConfig) -> dict[str, str]:
    """Those of a network namespace that is made are set with it."""
    joins = host.network_mode.startswith("container:")
    return {key: value for key, value in (host.sysctls or {}).items() if joins or not key.startswith("net.")}


def _process(container: Container, caps: list[str]) -> oci.Process:
    config, host = container.config, container.host_config
    return oci.Process(
        args=[container.path, *container.args],
        cwd=config.working_dir or "/",
        env=environment(container),
        terminal=config.tty,
        console_size=console(host.console_size),
        user=oci.User(username=config.user, group_names=host.group_add or []),
        capabilities=oci.Capabilities(bounding=caps, effective=caps, permitted=caps),
        rlimits=[rlimit(limit) for limit in host.ulimits or ()],
        no_new_privileges="no-new-privileges" in security_options(host),
        oom_score_adj=host.oom_score_adj or None,
        apparmor_profile=container.apparmor_profile,
    )


def console(size: Sequence[int] | None) -> oci.ConsoleSize | None:
    return oci.ConsoleSize(height=size[0], width=size[1]) if size and len(size) == 2 and all(size) else None


def environment(container: Container) -> list[str]:
    """PATH, HOSTNAME and TERM come first, so that what the image or user set wins."""
    given = {item.partition("=")[0] for item in container.config.env or ()}
    own = {"PATH": DEFAULT_PATH, "HOSTNAME": container.config.hostname}
    if container.config.tty:
        own["TERM"] = "xterm"
    return [f"{k}={v}" for k, v in own.items() if k not in given] + [e for e in container.config.env or () if "=" in e]


_SECURITY_OPTIONS = ("no-new-privileges", "seccomp", "apparmor", "label", "systempaths")


def security_options(host: HostConfig) -> dict[str, str]:
    """--security-opt as a mapping; InvalidArgument for one that does not exist."""
    found = {}
    for item in host.security_opt or ():
        key, separator, value = item.partition("=" if "=" in item else ":")
        if key not in _SECURITY_OPTIONS or (key != "no-new-privileges" and not (separator and value)):
            raise InvalidArgument(
                f'invalid --security-opt {2 if separator else 1}: "{item}"',
                remedy="There are no-new-privileges, seccomp=, apparmor=, systempaths=unconfined, label=.",
            )
        if key == "no-new-privileges" and value.lower() not in ("", "true", "1", "false", "0"):
            raise InvalidArgument(f'invalid --security-opt 2: "{item}"', remedy="It is true or false.")
        if not (key == "no-new-privileges" and value.lower() in ("false", "0")):
            found[key] = value
    return found


def apparmor_profile(host: HostConfig) -> str:
    """The profile that confines its programs, "" where the kernel has no AppArmor.

    As in Docker, one that is asked for is passed over there, and a privileged container has none unless it asks.
    """
    if not apparmor.is_enabled():
        return ""
    asked = security_options(host).get("apparmor", "") if host.security_opt else ""
    return asked or (apparmor.UNCONFINED if host.privileged else apparmor.default())


def capability_set(host: HostConfig) -> list[str]:
    """Docker's default capabilities with --cap-drop and --cap-add applied; all for a privileged container."""
    if host.privileged:
        return list(capabilities.available())
    drop = {_capability(name, "CapDrop") for name in host.cap_drop or ()}
    add = {_capability(name, "CapAdd") for name in host.cap_add or ()}
    base = set(capabilities.available()) if "ALL" in add else set(capabilities.DEFAULT_CAPABILITIES)
    if "ALL" in drop:
        base = set()
    kept = (base - drop) | (add - {"ALL"})
    return [name for name in capabilities.available() if name in kept]


def _capability(name: str, field: str) -> str:
    upper = name.upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in capabilities.ALL:
        raise InvalidArgument(
            f'invalid {field}: unknown capability: "{full}"', remedy="`man 7 capabilities` lists them; ALL is all."
        )
    return full


RLIMITS = ("core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack").split()


def rlimit(limit: Ulimit) -> oci.Rlimit:
    if limit.name not in RLIMITS:
        raise InvalidArgument(f"invalid ulimit type: {limit.name}", remedy=f"There are {', '.join(RLIMITS)}.")
    if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
        raise InvalidArgument(
            f"ulimit {limit.name}: soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
        )
    unlimited = (1 << 64) - 1
    hard = unlimited if limit.hard == -1 else limit.hard
    soft = unlimited if limit.soft == -1 else limit.soft
    return oci.Rlimit(type=f"RLIMIT_{limit.name.upper()}", hard=hard, soft=soft)


def _default_mounts(host: HostConfig, shm_place: str) -> list[oci.Mount]:
    ro = [] if host.privileged else ["ro"]
    shm_size = host.shm_size or DEFAULT_SHM_SIZE
    plain = ["nosuid", "noexec", "nodev"]
    mount = oci.Mount
    shm = (
        mount(destination="/dev/shm", type="bind", source=shm_place, options=["rbind", "rprivate"])
        if shm_place
        else mount(
            destination="/dev/shm", type="tmpfs", source="shm", options=[*plain, "mode=1777", f"size={shm_size}"]
        )
    )
    return [
        mount(destination="/proc", type="proc", source="proc", options=plain),
        mount(
            destination="/dev",
            type="tmpfs",
            source="tmpfs",
            options=["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            destination="/dev/pts",
            type="devpts",
            source="devpts",
            options=["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount(destination="/sys", type="sysfs", source="sysfs", options=[*plain, *ro]),
        mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=[*plain, "relatime", *ro]),
        mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=plain),
        *([] if shm_place == NO_SHM else [shm]),
    ]


def _namespaces(given: dict[str, str]) -> list[oci.Namespace]:
    made = [oci.Namespace(type="mount")]
    for kind in ("network", "uts", "pid", "ipc", "cgroup"):
        place = given.get(kind, "")
        if place != "host":
            made.append(oci.Namespace(type=kind, path=place))
    return made


def _paths(asked: list[str] | None, default: Sequence[str], host: HostConfig) -> list[str]:
    if asked is not None:
        return asked
    unconfined = host.privileged or security_options(host).get("systempaths") == "unconfined"
    return [] if unconfined else list(default)


def _seccomp(host: HostConfig, caps: list[str], architecture: str) -> bytes:
    choice = security_options(host).get("seccomp", "")
    if host.privileged or choice == "unconfined":
        return b""
    release = os.uname().release.split(".")
    kernel = (int(release[0]), int(release[1]))
    if choice and choice != "builtin":
        from hooper.engine.seccomp_profile import parse

        return parse(choice, caps, architecture, kernel).packed()
    return packed_profile(tuple(caps), architecture, kernel)


def resources(host: HostConfig, *, devices: bool = False) -> oci.Resources:
    """The limits that are set; the rules for devices only where asked for."""
    cpu = oci.CPU(
        shares=host.cpu_shares or None,
        quota=host.cpu_quota or (host.nano_cpus // 10_000 if host.nano_cpus else None),
        period=host.cpu_period or (100_000 if host.nano_cpus else None),
        cpus=host.cpuset_cpus,
        mems=host.cpuset_mems,
        realtime_period=host.cpu_realtime_period or None,
        realtime_runtime=host.cpu_realtime_runtime or None,
    )
    memory = oci.Memory(
        limit=host.memory or None,
        reservation=host.memory_reservation or None,
        # As Docker: twice the memory where only that is limited.
        swap=host.memory_swap or (2 * host.memory if host.memory > 0 else None),
        swappiness=host.memory_swappiness if host.memory_swappiness not in (None, -1) else None,
        disable_oom_killer=host.oom_kill_disable or None,
    )
    return oci.Resources(
        devices=devices_of.rules(host) if devices else [],
        memory=memory if memory != oci.Memory() else None,
        cpu=cpu if cpu != oci.CPU() else None,
        pids=oci.Pids(limit=host.pids_limit) if host.pids_limit else None,
        block_io=_block_io(host),
    )


def _block_io(host: HostConfig) -> oci.BlockIO | None:
    if not (
        host.blkio_weight
        or host.blkio_weight_device
        or host.blkio_device_read_bps
        or host.blkio_device_write_bps
        or host.blkio_device_read_iops
        or host.blkio_device_write_iops
    ):
        return None
    return oci.BlockIO(
        weight=host.blkio_weight or None,
        weight_device=[
            oci.WeightDevice(major=major, minor=minor, weight=device.weight)
            for device in host.blkio_weight_device or ()
            for major, minor in [_block_device(device.path)]
        ],
        throttle_read_bps_device=_throttled(host.blkio_device_read_bps),
        throttle_write_bps_device=_throttled(host.blkio_device_write_bps),
        throttle_read_iops_device=_throttled(host.blkio_device_read_iops),
        throttle_write_iops_device=_throttled(host.blkio_device_write_iops),
    )


def _throttled(devices: Sequence[ThrottleDevice] | None) -> list[oci.ThrottleDevice]:
    return [
        oci.ThrottleDevice(major=major, minor=minor, rate=device.rate)
        for device in devices or ()
        for major, minor in [_block_device(device.path)]
    ]


def _block_device(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidArgument(
            f"stat {path}: {(error.strerror or str(error)).lower()}", remedy="`lsblk` lists the block devices."
        ) from error
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidArgument(f"{path} is not a block device", remedy="`lsblk` lists the block devices.")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


def merge_resources(host: HostConfig, changes: HostConfig) -> HostConfig:
    """`host` with the limits and the restart policy that `changes` sets (docker update)."""
    names = (
        "blkio_weight cpu_period cpu_quota cpu_realtime_period cpu_realtime_runtime cpu_shares cpuset_cpus cpuset_mems "
        "memory memory_reservation memory_swap nano_cpus pids_limit"
    ).split()
    new = {name: value for name in names if (value := getattr(changes, name))}
    if changes.restart_policy.name:
        new["restart_policy"] = changes.restart_policy
    return msgspec.structs.replace(host, **new)
