"""From the flags of `run` and `create` to the body of POST /containers/create: values in, values out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hooper.cli import values
from hooper.cli.errors import BadFlag
from hooper.cli.mounts import mounts, tmpfs, volumes
from hooper.cli.ports import exposed, published
from hooper.cli.units import parse_cpus, parse_duration, parse_size

Options = Mapping[str, Any]
_RATES = ("device-read-bps", "device-read-iops", "device-write-bps", "device-write-iops")
_NETWORK_KEYS = {"name", "alias", "ip", "ip6", "mac-address", "driver-opt", "link-local-ip", "gw-priority"}


def create_body(image: str, command: list[str], options: Options, *, detached: bool) -> dict[str, Any]:
    """The body; what is not given is left out, so that the daemon's defaults hold. BadFlag."""
    if options["gpus"]:
        raise BadFlag("--gpus", options["gpus"][0], "GPU requests are not supported", "--device /dev/dri/renderD128")
    bindings = published(options["publish"])
    binds, anonymous = volumes(options["volume"])
    ports = [*bindings, *exposed(options["expose"])]
    streams = attached_streams(options, detached=detached)
    body = {
        "Image": image,
        "Cmd": command or None,
        "Entrypoint": None if options["entrypoint"] is None else [options["entrypoint"]],
        "Env": values.environment(options["env"], options["env_file"], os.environ),
        "Labels": values.labels(options["label"], options["label_file"]),
        "Hostname": options["hostname"],
        "Domainname": options["domainname"],
        "User": options["user"],
        "WorkingDir": options["workdir"],
        "Tty": options["tty"],
        "OpenStdin": options["interactive"],
        "StdinOnce": options["interactive"] and "stdin" in streams,
        "AttachStdin": "stdin" in streams,
        "AttachStdout": "stdout" in streams,
        "AttachStderr": "stderr" in streams,
        "ExposedPorts": {port: {} for port in ports},
        "Volumes": anonymous,
        "StopSignal": options["stop_signal"],
        "StopTimeout": options["stop_timeout"],
        "Healthcheck": health_check(options),
        "NetworkingConfig": {"EndpointsConfig": endpoints(options)},
    }
    given = {key: value for key, value in body.items() if value not in (None, "", {}, [])}
    return given | {"HostConfig": host_config(options, bindings, binds)}


def attached_streams(options: Options, *, detached: bool) -> set[str]:
    """Which of stdin, stdout and stderr the client is attached to."""
    named = {item.lower() for item in options["attach"]}
    for item in options["attach"]:
        values.one_of("--attach", item.lower(), ("stdin", "stdout", "stderr"))
    if detached:
        if named:
            raise BadFlag("--attach", options["attach"][0], "it does not go with --detach")
        return set()
    return (named or {"stdout", "stderr"}) | ({"stdin"} if options["interactive"] else set())


def host_config(options: Options, bindings: Mapping[str, Any], binds: list[str]) -> dict[str, Any]:
    """HostConfig; what is not given is left out."""
    config = {
        "Binds": binds,
        "Mounts": mounts(options["mount"]),
        "Tmpfs": tmpfs(options["tmpfs"]),
        "VolumesFrom": list(options["volumes_from"]),
        "VolumeDriver": options["volume_driver"],
        "StorageOpt": values.pairs("--storage-opt", options["storage_opt"]),
        "PortBindings": bindings,
        "PublishAllPorts": options["publish_all"],
        "AutoRemove": options["rm"],
        "RestartPolicy": restart_policy(options),
        "Runtime": options["runtime"],
        "Isolation": options["isolation"],
        "Annotations": values.pairs("--annotation", options["annotation"]),
        "LogConfig": log_config(options),
        "ReadonlyRootfs": options["read_only"],
        "ShmSize": _size(options, "shm-size", "64m"),
        "Init": True if options["init"] else None,
        "GroupAdd": list(options["group_add"]),
    }
    config |= _network_mode(options) | _isolation(options) | resources(options)
    given = {key: value for key, value in config.items() if value not in (None, "", {}, [], False)}
    # These docker sends empty as well, and `inspect` tells the difference.
    return {**{_rate_key(name): [] for name in _RATES}, "BlkioWeightDevice": [], **given}


def restart_policy(options: Options) -> dict[str, Any] | None:
    """RestartPolicy; BadFlag where it contradicts --rm."""
    if not options["restart"]:
        return None
    policy = values.restart_policy(options["restart"])
    if options["rm"] and policy["Name"] != "no":
        raise BadFlag("--restart", options["restart"], "a container that is removed when it exits cannot restart")
    return policy


def log_config(options: Options) -> dict[str, Any] | None:
    """LogConfig, None for the daemon's default."""
    chosen = values.pairs("--log-opt", options["log_opt"])
    if not (options["log_driver"] or chosen):
        return None
    if options["log_driver"] == "none" and chosen:
        raise BadFlag("--log-opt", options["log_opt"][0], "the log driver none has no options")
    return {"Type": options["log_driver"], "Config": chosen}


def resources(options: Options) -> dict[str, Any]:
    """The limits of HostConfig."""
    rates = {
        _rate_key(name): values.device_rates(
            f"--{name}", options[name.replace("-", "_")], parse_size if name.endswith("bps") else int
        )
        for name in _RATES
    }
    cpus = options["cpus"]
    return {
        "Memory": _size(options, "memory", "512m"),
        "MemoryReservation": _size(options, "memory-reservation", "256m"),
        "MemorySwap": -1 if options["memory_swap"] == "-1" else _size(options, "memory-swap", "1g"),
        "MemorySwappiness": options["memory_swappiness"],
        "NanoCpus": values.checked("--cpus", cpus, parse_cpus, "1.5") if cpus else None,
        "CpuShares": options["cpu_shares"],
        "CpuPeriod": options["cpu_period"],
        "CpuQuota": options["cpu_quota"],
        "CpuRealtimePeriod": options["cpu_rt_period"],
        "CpuRealtimeRuntime": options["cpu_rt_runtime"],
        "CpuCount": options["cpu_count"],
        "CpuPercent": options["cpu_percent"],
        "IOMaximumBandwidth": _size(options, "io-maxbandwidth", "10m"),
        "IOMaximumIOps": options["io_maxiops"],
        "KernelMemory": _size(options, "kernel-memory", "64m"),
        "CpusetCpus": options["cpuset_cpus"],
        "CpusetMems": options["cpuset_mems"],
        "PidsLimit": options["pids_limit"],
        "BlkioWeight": options["blkio_weight"],
        "BlkioWeightDevice": [
            {"Path": one["Path"], "Weight": one["Rate"]}
            for one in values.device_rates("--blkio-weight-device", options["blkio_weight_device"], int)
        ],
        "Ulimits": values.ulimits(options["ulimit"]),
        "OomKillDisable": options["oom_kill_disable"],
        "OomScoreAdj": options["oom_score_adj"],
        "CgroupParent": options["cgroup_parent"],
        "Devices": values.devices(options["device"]),
        "DeviceCgroupRules": list(options["device_cgroup_rule"]),
        **rates,
    }


def _rate_key(name: str) -> str:
    """device-read-bps is BlkioDeviceReadBps, device-read-iops is BlkioDeviceReadIOps."""
    return "Blkio" + "".join("IOps" if word == "iops" else word.capitalize() for word in name.split("-"))


def _size(options: Options, name: str, example: str) -> int | None:
    text = options[name.replace("-", "_")]
    return values.checked(f"--{name}", text, parse_size, example) if text else None


def _isolation(options: Options) -> dict[str, Any]:
    added, dropped = values.capabilities(options["cap_add"], options["cap_drop"])
    return {
        "CapAdd": added,
        "CapDrop": dropped,
        "Privileged": options["privileged"],
        "SecurityOpt": values.security_options(options["security_opt"]),
        "Sysctls": values.pairs("--sysctl", options["sysctl"]),
        "PidMode": options["pid"],
        "IpcMode": options["ipc"],
        "UTSMode": options["uts"],
        "UsernsMode": options["userns"],
        "CgroupnsMode": values.one_of("--cgroupns", options["cgroupns"], ("host", "private")),
    }


def _network_mode(options: Options) -> dict[str, Any]:
    first = _network(options["network"][0])["name"] if options["network"] else ""
    return {
        "NetworkMode": first,
        "Dns": list(options["dns"]),
        "DnsOptions": list(options["dns_option"]),
        "DnsSearch": list(options["dns_search"]),
        "ExtraHosts": values.hosts(options["add_host"]),
        "Links": list(options["link"]),
    }


def endpoints(options: Options) -> dict[str, Any]:
    """NetworkingConfig.EndpointsConfig: the networks named, with what belongs to each.

    The flags --ip, --ip6, --mac-address and --network-alias belong to the first.
    """
    configs: dict[str, Any] = {}
    for index, item in enumerate(options["network"] or ([""] if _has_endpoint_flags(options) else [])):
        network = _network(item)
        first = index == 0
        aliases = [*network["alias"], *(options["network_alias"] if first else ())]
        addresses = {
            "IPv4Address": network["ip"] or (options["ip"] if first else ""),
            "IPv6Address": network["ip6"] or (options["ip6"] if first else ""),
            "LinkLocalIPs": [*network["link-local-ip"], *(options["link_local_ip"] if first else ())],
        }
        addresses = {key: value for key, value in addresses.items() if value}
        endpoint = {
            "Aliases": aliases,
            "IPAMConfig": addresses,
            "MacAddress": network["mac-address"] or (options["mac_address"] if first else ""),
            "DriverOpts": network["driver-opt"],
            "GwPriority": network["gw-priority"],
        }
        endpoint = {key: value for key, value in endpoint.items() if value}
        if endpoint or len(options["network"]) > 1:
            configs[network["name"] or "bridge"] = endpoint
    return configs


def _has_endpoint_flags(options: Options) -> bool:
    return any(options[name] for name in ("ip", "ip6", "mac_address", "network_alias", "link_local_ip"))


def _network(item: str) -> dict[str, Any]:
    """NAME, or name=NAME,alias=…,ip=…; BadFlag."""
    result: dict[str, Any] = {"name": item, "alias": [], "ip": "", "ip6": "", "mac-address": "", "driver-opt": {}}
    result |= {"link-local-ip": [], "gw-priority": 0}
    if "=" not in item:
        return result
    result["name"] = ""
    for part in item.split(","):
        key, _, value = part.partition("=")
        if key not in _NETWORK_KEYS:
            raise BadFlag("--network", item, f'there is no key "{key}"', "--network name=front,alias=web,ip=10.0.0.5")
        if key in ("alias", "link-local-ip"):
            result[key].append(value)
        elif key == "gw-priority":
            result[key] = values.checked("--network", value, int, "name=front,gw-priority=1")
        elif key == "driver-opt":
            option, _, setting = value.partition("=")
            result["driver-opt"][option] = setting
        else:
            result[key] = value
    return result


def health_check(options: Options) -> dict[str, Any] | None:
    """Healthcheck, None for the image's own; durations in nanoseconds."""
    names = ("health_interval", "health_timeout", "health_start_period", "health_start_interval")
    given = [name for name in (*names, "health_cmd") if options[name]]
    if options["no_healthcheck"]:
        if given:
            raise BadFlag("--no-healthcheck", "true", f"it contradicts --{given[0].replace('_', '-')}")
        return {"Test": ["NONE"]}
    check: dict[str, Any] = {"Test": ["CMD-SHELL", options["health_cmd"]]} if options["health_cmd"] else {}
    for name in names:
        if options[name]:
            key = "".join(word.capitalize() for word in name.removeprefix("health_").split("_"))
            check[key] = values.checked(f"--{name.replace('_', '-')}", options[name], parse_duration, "30s")
    if options["health_retries"] is not None:
        check["Retries"] = options["health_retries"]
    return check or None
