"""Whether what a container is to be makes sense: everything that can be said before anything is made.

Rules and words are Docker's. The limits have rules of their own (`limits`), as have mounts (`mounts`), ports and
networks.
"""

from __future__ import annotations

import ipaddress
import re

from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.model import Container, ContainerConfig, EndpointIPAM, EndpointSettings, HostConfig
from hooper.engine import devices, ports, restarts, signals, spec

_OUR_NAMESPACE = ("", "host", "private")
_LONGEST_NAME = 64
"""HOST_NAME_MAX, in <limits.h>."""
_LIMITS = (
    "memory", "memory_reservation", "memory_swap", "memory_swappiness", "oom_kill_disable", "kernel_memory",
    "kernel_memory_tcp", "nano_cpus", "cpu_shares", "cpu_period", "cpu_quota", "cpu_realtime_period",
    "cpu_realtime_runtime", "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight", "blkio_weight_device",
    "blkio_device_read_bps", "blkio_device_write_bps", "blkio_device_read_iops", "blkio_device_write_iops",
    "cpu_percent", "io_maximum_iops", "io_maximum_bandwidth",
)  # fmt: skip
_LINKS_REMEDY = "Connect both to a network of your own, where containers find each other by name."


def check_config(container: Container) -> list[str]:
    """Raises for values that no host accepts; returns warnings about those that have no effect."""
    config, host = container.config, container.host_config
    ports.check(container)
    _check_program(config)
    spec.capability_set(host)
    spec.security_options(host)
    for limit in host.ulimits or ():
        spec.rlimit(limit)
    if config.healthcheck is not None:
        from hooper.engine import health

        health.check(config.healthcheck)
    if limited(host):
        from hooper.engine import limits

        limits.check(host)
    _check_namespaces(host)
    _check_numbers(host)
    if host.sysctls:
        from hooper.engine import sysctls

        sysctls.check(host)
    _check_hosts(host)
    for rule in host.device_cgroup_rules or ():
        devices.parsed_rule(rule)
    for mapping in host.devices or ():
        devices.check_permissions(mapping)
    _check_absent(host)
    _check_policy(host)
    return _warnings(host)


def limited(host: HostConfig) -> bool:
    """Any limit is set."""
    return any(getattr(host, name) for name in _LIMITS)


def _check_program(config: ContainerConfig) -> None:
    if config.stop_signal:
        signals.number(config.stop_signal)
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path",
            remedy="Begin it with /.",
        )


def _check_namespaces(host: HostConfig) -> None:
    for kind, mode, more in (
        ("IPC", host.ipc_mode, ("none", "shareable")),
        ("PID", host.pid_mode, ()),
        ("UTS", host.uts_mode, ()),
        ("cgroup namespace", host.cgroupns_mode, ()),
        ("user namespace", host.userns_mode, ()),
    ):
        joins = kind in ("IPC", "PID") and mode.startswith("container:") and len(mode) > len("container:")
        if not joins and mode not in (*_OUR_NAMESPACE, *more):
            allowed = [*_OUR_NAMESPACE[1:], *more, *(["container:NAME"] if kind in ("IPC", "PID") else [])]
            raise InvalidArgument(f"invalid {kind} mode: {mode}", remedy=f"There are: {', '.join(allowed)}.")


def _check_numbers(host: HostConfig) -> None:
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0", remedy=f"{host.shm_size} bytes were asked for.")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")


def _check_hosts(host: HostConfig) -> None:
    for entry in host.extra_hosts or ():
        name, separator, address = entry.partition("=" if "=" in entry else ":")
        if not (name and separator and address):
            raise InvalidArgument(f'bad format for add-host: "{entry}"', remedy="Write NAME:ADDRESS.")
        if address != "host-gateway" and not _is_address(address):
            raise InvalidArgument(
                f'invalid IP address in add-host: "{address}"', remedy="Or host-gateway, for this host's own."
            )
    for server in host.dns or ():
        if not _is_address(server):
            raise InvalidArgument(f"invalid DNS server: {server}", remedy="Give its IP address.")
    for words, what in ((host.dns_search, "search domain"), (host.dns_options, "option")):
        for word in words or ():
            if re.search(r"\s", word):
                raise InvalidArgument(f'invalid DNS {what} "{word}"', remedy="It has no spaces; give it several times.")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _check_absent(host: HostConfig) -> None:
    """What other systems have."""
    if host.isolation.lower() not in ("", "default"):
        raise InvalidArgument(f"invalid isolation: \"{host.isolation}\" - linux only supports 'default'")
    for key in host.storage_opt or ():
        if key != "size":
            raise InvalidArgument(f"Unknown option {key}", remedy="The one storage option is size.")
        raise InvalidArgument(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            remedy="Limit a volume or a --tmpfs instead: size=.",
        )
    for request in host.device_requests or ():
        capabilities = " ".join(f"[{' '.join(each)}]" for each in request.get("Capabilities") or ())
        raise Unsupported(
            f'could not select device driver "{request.get("Driver") or ""}" with capabilities: [{capabilities}]',
            remedy="No plugin hands out such devices; name their nodes with --device.",
        )


def _check_policy(host: HostConfig) -> None:
    policy = host.restart_policy
    restarts.check(policy)
    if host.auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument(
            "can't create 'AutoRemove' container with restart policy", remedy="Leave one of the two away."
        )


def _warnings(host: HostConfig) -> list[str]:
    if host.network_mode == "host" and host.port_bindings:
        return ["Published ports are discarded when using host network mode"]
    return []


def check_request(config: ContainerConfig, host: HostConfig) -> None:
    """InvalidArgument for what is wrong with a request before its image's defaults are merged into it."""
    for variable in config.env or ():
        if not variable or variable.startswith("="):
            raise InvalidArgument(f"invalid environment variable: {variable}", remedy="Write NAME=VALUE.")
    for name, what in ((config.hostname, "hostname"), (config.domainname, "domain name")):
        if len(name.encode()) > _LONGEST_NAME:
            raise InvalidArgument(
                f"invalid {what}: {name}", f"the kernel takes {_LONGEST_NAME} bytes at most", "Choose a shorter one."
            )
    _check_network(config, host)


def check_endpoint(settings: EndpointSettings) -> None:
    """InvalidArgument for addresses that are none."""
    asked = settings.ipam_config or EndpointIPAM()
    for text, kind, version in ((asked.ipv4_address, "IPv4", 4), (asked.ipv6_address, "IPv6", 6)):
        if text and not (_is_address(text) and ipaddress.ip_address(text).version == version):
            raise InvalidArgument(f"invalid {kind} address: {text}", remedy="Give one of the network's subnet.")


def _check_network(config: ContainerConfig, host: HostConfig) -> None:
    """What cannot go with the network mode."""
    mode = host.network_mode
    joins = mode.startswith("container:")
    if joins and not mode.removeprefix("container:"):
        raise InvalidArgument(
            'invalid container format container:<name|id>: ""', remedy="Write --network container:NAME."
        )
    if host.uts_mode == "host" and config.hostname:
        raise _conflict("hostname and the UTS mode")
    if (joins or mode == "host") and host.links:
        kind = "container" if joins else "host"
        raise _conflict(
            f"{kind} type networking can't be used with links. This would result in undefined behavior", _LINKS_REMEDY
        )
    if not joins:
        return
    for given, what in (
        (config.hostname, "hostname and the network mode"),
        (host.dns, "dns and the network mode"),
        (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (config.mac_address, "mac-address and the network mode"),
        (host.port_bindings or host.publish_all_ports, "port publishing and the container type network mode"),
        (config.exposed_ports, "port exposing and the container type network mode"),
    ):
        if given:
            raise _conflict(what, f"Give it to {mode.removeprefix('container:')}, whose network this is.")


def _conflict(what: str, remedy: str = "Leave one of the two away.") -> InvalidArgument:
    return InvalidArgument(f"conflicting options: {what}", remedy=remedy)
