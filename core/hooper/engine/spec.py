"""From a container's configuration to its OCI runtime spec: Docker's defaults, then what was asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hooper.api import oci
from hooper.api.errors import InvalidArgument
from hooper.api.model import Container, DeviceMapping, HostConfig, Ulimit
from hooper.linux import capabilities, defaults
from hooper.linux.seccomp_default import default_profile

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 << 20
CGROUP_PARENT = "/hooper"


def build(
    container: Container,
    rootfs: Path,
    mounts: Sequence[oci.Mount],
    *,
    architecture: str,
    namespaces: dict[str, str],
) -> oci.Spec:
    """The whole document. `mounts` come after the default ones; `namespaces` are paths of those that are
    joined instead of made, "host" for those that are the host's (pid, ipc, uts, cgroup, network)."""
    config, host = container.config, container.host_config
    caps = capability_set(host)
    return oci.Spec(
        oci_version="1.0.2",
        process=_process(container, caps),
        root=oci.Root(path=str(rootfs), readonly=host.readonly_rootfs),
        hostname="" if namespaces.get("uts") == "host" else config.hostname,
        domainname="" if namespaces.get("uts") == "host" else config.domainname,
        mounts=[*_default_mounts(host, namespaces), *mounts],
        annotations=host.annotations or {},
        linux=oci.Linux(
            namespaces=_namespaces(namespaces),
            devices=_devices(host),
            cgroups_path=f"{host.cgroup_parent or CGROUP_PARENT}/{container.id}",
            resources=resources(host, devices=True),
            seccomp=_seccomp(host, caps, architecture),
            sysctl={k: v for k, v in (host.sysctls or {}).items() if not k.startswith("net.")},
            masked_paths=_paths(host.masked_paths, defaults.MASKED_PATHS, host),
            readonly_paths=_paths(host.readonly_paths, defaults.READONLY_PATHS, host),
        ),
    )


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


def security_options(host: HostConfig) -> dict[str, str]:
    """--security-opt as a mapping; InvalidArgument for one that does not exist."""
    found = {}
    for item in host.security_opt or ():
        key, _, value = item.replace(":", "=", 1).partition("=") if "=" not in item else item.partition("=")
        if key not in ("no-new-privileges", "seccomp", "apparmor", "label", "systempaths", "writable-cgroups"):
            raise InvalidArgument(
                f'invalid --security-opt: "{item}"',
                remedy="There are no-new-privileges, seccomp, apparmor, systempaths.",
            )
        if not (key == "no-new-privileges" and value == "false"):
            found[key] = value
    return found


def capability_set(host: HostConfig) -> list[str]:
    """Docker's default capabilities with --cap-drop and --cap-add applied; all for a privileged container."""
    if host.privileged:
        return list(capabilities.available())
    drop = {_capability(name) for name in host.cap_drop or ()}
    add = {_capability(name) for name in host.cap_add or ()}
    base = set(capabilities.available()) if "ALL" in add else set(capabilities.DEFAULT_CAPABILITIES)
    if "ALL" in drop:
        base = set()
    kept = (base - drop) | (add - {"ALL"})
    return [name for name in capabilities.available() if name in kept]


def _capability(name: str) -> str:
    upper = name.upper()
    if upper in ("ALL", "CAP_ALL"):
        return "ALL"
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in capabilities.ALL:
        raise InvalidArgument(f'invalid capability: "{name}"', remedy="`man 7 capabilities` lists them.")
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


def _default_mounts(host: HostConfig, namespaces: dict[str, str]) -> list[oci.Mount]:
    ro = [] if host.privileged else ["ro"]
    shm_size = host.shm_size or DEFAULT_SHM_SIZE
    plain = ["nosuid", "noexec", "nodev"]
    mount = oci.Mount
    ipc_host = namespaces.get("ipc") == "host"
    shm = (
        mount(destination="/dev/shm", type="bind", source="/dev/shm", options=["rbind", "rprivate"])
        if ipc_host
        else mount(
            destination="/dev/shm", type="tmpfs", source="shm", options=[*plain, "mode=1777", f"size={shm_size}"]
        )
    )
    mqueue = (
        mount(destination="/dev/mqueue", type="bind", source="/dev/mqueue", options=["rbind", "rprivate"])
        if ipc_host
        else mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=plain)
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
        mqueue,
        shm,
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


def _seccomp(host: HostConfig, caps: list[str], architecture: str) -> oci.Seccomp | None:
    choice = security_options(host).get("seccomp", "")
    if host.privileged or choice == "unconfined":
        return None
    release = os.uname().release.split(".")
    kernel = (int(release[0]), int(release[1]))
    if choice and choice != "builtin":
        from hooper.engine.seccomp_profile import parse

        return parse(choice, caps, architecture, kernel)
    return default_profile(caps, architecture, kernel)


# Docker's default device rules: mknod of anything, and the use of these.
_DEVICE_RULES = [
    oci.DeviceRule(allow=False, access="rwm"),
    oci.DeviceRule(allow=True, type="c", access="m"),
    oci.DeviceRule(allow=True, type="b", access="m"),
    *(
        oci.DeviceRule(allow=True, type="c", major=major, minor=minor, access="rwm")
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
    ),
]


def resources(host: HostConfig, *, devices: bool = False) -> oci.Resources:
    """The limits that are set; the rules for devices only where asked for."""
    cpu = oci.CPU(
        shares=host.cpu_shares or None,
        quota=host.cpu_quota or (host.nano_cpus // 10_000 if host.nano_cpus else None),
        period=host.cpu_period or (100_000 if host.nano_cpus else None),
        cpus=host.cpuset_cpus,
        mems=host.cpuset_mems,
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
        devices=_device_rules(host) if devices else [],
        memory=memory if memory != oci.Memory() else None,
        cpu=cpu if cpu != oci.CPU() else None,
        pids=oci.Pids(limit=host.pids_limit) if host.pids_limit else None,
        block_io=oci.BlockIO(weight=host.blkio_weight) if host.blkio_weight else None,
    )


def _device_rules(host: HostConfig) -> list[oci.DeviceRule]:
    if host.privileged:
        return [oci.DeviceRule(allow=True, access="rwm")]
    rules = list(_DEVICE_RULES)
    for mapping in host.devices or ():
        device = _device(mapping)
        rules.append(
            oci.DeviceRule(
                allow=True,
                type=device.type,
                major=device.major,
                minor=device.minor,
                access=mapping.cgroup_permissions or "rwm",
            )
        )
    return rules + [_parsed_rule(text) for text in host.device_cgroup_rules or ()]


def _parsed_rule(text: str) -> oci.DeviceRule:
    try:
        kind, numbers, access = text.split()
        major, minor = (None if part == "*" else int(part) for part in numbers.split(":"))
        if kind not in "abc" or set(access) - set("rwm"):
            raise ValueError(text)
    except ValueError:
        raise InvalidArgument(
            f'invalid device cgroup rule "{text}"', remedy='Write TYPE MAJOR:MINOR ACCESS, such as "c 189:* rwm".'
        ) from None
    return oci.DeviceRule(allow=True, type=kind, major=major, minor=minor, access=access)


def _devices(host: HostConfig) -> list[oci.Device]:
    if host.privileged:
        return _all_host_devices()
    return [_device(mapping) for mapping in host.devices or ()]


def _device(mapping: DeviceMapping) -> oci.Device:
    try:
        found = os.stat(mapping.path_on_host)
    except OSError as error:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{mapping.path_on_host}"',
            error.strerror or str(error),
            "Name a device node of this host.",
        ) from error
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind:
        raise InvalidArgument(f'"{mapping.path_on_host}" is not a device node')
    return oci.Device(
        path=mapping.path_in_container or mapping.path_on_host,
        type=kind,
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        file_mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
    )


def _all_host_devices() -> list[oci.Device]:
    found = []
    for folder, folders, files in os.walk("/dev"):
        folders[:] = [name for name in folders if name not in ("pts", "shm", "mqueue", "fd")]
        for name in files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and path not in defaults.DEVICE_PATHS:
                found.append(_device(DeviceMapping(path_on_host=path)))
    return found


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
