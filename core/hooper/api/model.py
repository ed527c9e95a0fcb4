"""The engine's objects as values.

Containers, images and volumes have the field names of the Docker Engine API (moby's api/swagger.yaml)
when encoded, and Python's in code, so that a front-end decodes a request straight into them. Images
are the OCI image-spec's (config.md).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

_SPECIAL = {
    "uts_mode": "UTSMode",
    "oom_killed": "OOMKilled",
    "oom_kill_disable": "OomKillDisable",
    "container_id_file": "ContainerIDFile",
    "ipam_config": "IPAMConfig",
    "network_id": "NetworkID",
    "endpoint_id": "EndpointID",
    "ip_address": "IPAddress",
    "ip_prefix_len": "IPPrefixLen",
    "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_len": "GlobalIPv6PrefixLen",
    "ipv6_gateway": "IPv6Gateway",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "link_local_ips": "LinkLocalIPs",
    "dns_names": "DNSNames",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "kernel_memory_tcp": "KernelMemoryTCP",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "rw": "RW",
    "gw_priority": "GwPriority",
}


def docker_name(field: str) -> str:
    """ "exposed_ports" -> "ExposedPorts", with Docker's irregular ones."""
    return _SPECIAL.get(field) or "".join(part.capitalize() for part in field.split("_"))


class DockerStruct(msgspec.Struct, rename=docker_name, kw_only=True):
    """Encodes with Docker's names. Unknown fields of a request are ignored, as dockerd does.

    Clients send null for empty lists and maps: such fields are declared `| None`.
    """


Empty = dict[str, Any]


class Healthcheck(DockerStruct, omit_defaults=True, kw_only=True):
    """Durations in nanoseconds; 0 inherits."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ImageConfig(DockerStruct, omit_defaults=True, kw_only=True):
    """The `config` object of an image: defaults for its containers."""

    user: str = ""
    exposed_ports: dict[str, Empty] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    volumes: dict[str, Empty] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    on_build: list[str] | None = None
    shell: list[str] | None = None


class History(msgspec.Struct, omit_defaults=True, frozen=True):
    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class RootFS(msgspec.Struct):
    diff_ids: list[str] = []
    type: str = "layers"


class Image(msgspec.Struct, kw_only=True, omit_defaults=True):
    """OCI image-spec config.md. The digest of its encoded form is the image's id."""

    architecture: str
    os: str
    config: ImageConfig = msgspec.field(default_factory=ImageConfig)
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    history: list[History] = []
    created: str = ""
    """RFC 3339, UTC."""
    author: str = ""
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    build_cache: Any = msgspec.field(default=None, name="hooper.buildcache.v1")
    """The steps that its layers are of, for builds elsewhere (--cache-to=type=inline)."""


class ImageSummary(msgspec.Struct, kw_only=True):
    """A stored image."""

    id: str
    """"sha256:…" of its config."""
    tags: list[str] = []
    """Familiar references: "busybox:latest", "localhost:5000/a/b:1"."""
    digests: list[str] = []
    """Familiar references with digest: "busybox@sha256:…"."""
    created: float = 0.0
    size: int = 0
    """Bytes of all layers, uncompressed."""
    labels: dict[str, str] = {}
    parent: str = ""
    image: Image
    chain: str = ""
    """Chain id: the name of its topmost snapshot; "" for an image without layers."""
    last_tagged: float = 0.0


class ContainerConfig(ImageConfig, kw_only=True):
    hostname: str = ""
    domainname: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    image: str = ""
    network_disabled: bool = False
    mac_address: str = ""
    stop_timeout: int | None = None


class PortMapping(DockerStruct, kw_only=True):
    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(DockerStruct, kw_only=True):
    name: str = ""
    """"" and "no", "always", "unless-stopped", "on-failure"."""
    maximum_retry_count: int = 0


class LogConfig(DockerStruct, kw_only=True):
    type: str = ""
    config: dict[str, str] | None = None


class DeviceMapping(DockerStruct, kw_only=True):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = "rwm"


Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
UInt64 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]


class Ulimit(DockerStruct, kw_only=True):
    name: str = ""
    soft: Int64 = 0
    hard: Int64 = 0


class WeightDevice(DockerStruct, kw_only=True):
    """A block device's share of I/O."""

    path: str = ""
    weight: Weight = 0


class ThrottleDevice(DockerStruct, kw_only=True):
    """A block device's limit, in bytes or operations a second."""

    path: str = ""
    rate: UInt64 = 0


class MountRequest(DockerStruct, kw_only=True):
    """One --mount."""

    type: str = "volume"
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: dict[str, Any] | None = None
    volume_options: dict[str, Any] | None = None
    tmpfs_options: dict[str, Any] | None = None
    image_options: dict[str, Any] | None = None


class HostConfig(DockerStruct, kw_only=True):
    """What of a container is about its host. 0, "" and None inherit."""

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig = msgspec.field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortMapping] | None] | None = None
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[int] | None = None
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: Int64 = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: Int64 = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    cpu_shares: Int64 = 0
    memory: Int64 = 0
    nano_cpus: Int64 = 0
    cgroup_parent: str = ""
    blkio_weight: Weight = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = None
    blkio_device_write_iops: list[ThrottleDevice] | None = None
    cpu_period: Int64 = 0
    cpu_quota: Int64 = 0
    cpu_realtime_period: Int64 = 0
    cpu_realtime_runtime: Int64 = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[dict[str, Any]] | None = None
    kernel_memory: Int64 = 0
    kernel_memory_tcp: Int64 = 0
    memory_reservation: Int64 = 0
    memory_swap: Int64 = 0
    memory_swappiness: Int64 | None = None
    oom_kill_disable: bool | None = None
    pids_limit: Int64 | None = None
    ulimits: list[Ulimit] | None = None
    mounts: list[MountRequest] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None
    cpu_count: Int64 = 0
    """This and the next three are of Windows: taken, and refused or left unused."""
    cpu_percent: Int64 = 0
    io_maximum_iops: Int64 = 0
    io_maximum_bandwidth: Int64 = 0


class EndpointIPAM(DockerStruct, kw_only=True):
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] | None = None


class EndpointSettings(DockerStruct, kw_only=True):
    """A container's place in a network, asked for (ipam_config, aliases…) and as it is."""

    ipam_config: EndpointIPAM | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    dns_names: list[str] | None = None


class NetworkingConfig(DockerStruct, kw_only=True):
    endpoints_config: dict[str, EndpointSettings | None] | None = None


class MountPoint(DockerStruct, kw_only=True):
    """A mount of a container, as inspect shows it."""

    type: str
    """bind, volume, tmpfs or image."""
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    subpath: str = ""
    """What of a volume or image is mounted; inspect does not show it, nor the next three."""
    anonymous: bool = False
    """Nobody named the volume for this container: it goes with it."""
    options: str = ""
    """Of a tmpfs: its mount options, with commas between."""
    recursion: str = ""
    """Of a bind: "" takes what is mounted below along, read-only too where it is; "none" does not take it along;
    "writable" leaves it writable."""


class ProbeResult(DockerStruct, kw_only=True):
    """One run of a container's health check."""

    start: str
    end: str
    exit_code: int
    """0 healthy; -1: it took too long, or could not be run."""
    output: str


class Health(DockerStruct, kw_only=True):
    """What the health check of a container has found."""

    status: str = "starting"
    """starting, healthy, unhealthy."""
    failing_streak: int = 0
    log: list[ProbeResult] = []
    """The last five, oldest first."""


class ContainerState(DockerStruct, kw_only=True):
    status: str = "created"
    """created, running, paused, restarting, removing, exited, dead."""
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = "0001-01-01T00:00:00Z"
    finished_at: str = "0001-01-01T00:00:00Z"
    health: Health | None = None
    """None: it has no health check, or was never started."""

    @property
    def running(self) -> bool:
        """A process of it lives: also paused and between two runs of a restart policy."""
        return self.status in ("running", "paused", "restarting")


class Departure(msgspec.Struct, kw_only=True):
    """The source's record of a move. See `hooper.api.moving`."""

    transfer: str
    to: str
    """The target's address, as the client has it."""
    engine: str
    """The target's id."""
    state: str = "moving"
    """moving (undone when in doubt), sealed (the target alone knows), gone (to be removed)."""
    was_running: bool = False
    stopped_by_user: bool = False
    auto_remove: bool = False
    """This and the two before: as it was, for when the move is undone."""
    carried: list[str] = []
    """Names of the volumes that go with it."""


class Container(DockerStruct, kw_only=True):
    """A container as the engine stores it."""

    id: str
    name: str
    """Without the leading slash."""
    created: str
    config: ContainerConfig
    host_config: HostConfig
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    image_id: str = ""
    path: str = ""
    args: list[str] = []
    networks: dict[str, EndpointSettings] = {}
    """By network name, in order of connection."""
    ports: dict[str, list[PortMapping] | None] = {}
    """"80/tcp": where it is published now; None: exposed only."""
    sandbox_id: str = ""
    mounts: list[MountPoint] = []
    driver: str = ""
    """Storage driver."""
    runtime: str = ""
    """Isolation backend."""
    apparmor_profile: str = ""
    """Of its programs, as it was last started; "" where the kernel has no AppArmor."""
    log_driver: str = ""
    log_path: str = ""
    resolv_conf_path: str = ""
    """This and the next two: the files on the host that it has as /etc/resolv.conf, /etc/hostname and /etc/hosts."""
    hostname_path: str = ""
    hosts_path: str = ""
    restart_count: int = 0
    stopped_by_user: bool = False
    """Its restart policy rests until somebody starts it."""
    platform: str = "linux"
    moving: Departure | None = None
    """It is on its way to another engine, and nothing else may change it."""


class Volume(DockerStruct, kw_only=True):
    name: str
    driver: str = "local"
    mountpoint: str = ""
    created_at: str = ""
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    scope: str = "local"
    anonymous: bool = False


class Exec(DockerStruct, kw_only=True):
    """One more process of a container."""

    id: str
    container_id: str
    args: list[str]
    user: str = ""
    env: list[str] = []
    working_dir: str = ""
    tty: bool = False
    privileged: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    probe: bool = False
    """Of a health check: it is ended when its daemon is gone."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened. Types and actions are Docker's."""

    type: str
    action: str
    id: str
    time_ns: int
    attributes: dict[str, str] = {}
