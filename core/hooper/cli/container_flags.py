"""The flags that `run` and `create` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hooper.cli import limit_flags
from hooper.cli.flags import flag, no_trust, number, platform, text, values

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_PROCESS: list[Decorator] = [
    values("-a", "--attach", help="Attach to STDIN, STDOUT or STDERR"),
    click.option("--entrypoint", metavar="string", help="Overwrite the default ENTRYPOINT of the image"),
    values("-e", "--env", help="Set environment variables"),
    values("--env-file", help="Read in a file of environment variables"),
    flag("-i", "--interactive", help="Keep STDIN open even if not attached"),
    flag("--init", help="Run an init inside the container that forwards signals and reaps processes"),
    flag("-t", "--tty", help="Allocate a pseudo-TTY"),
    text("-u", "--user", help="Username or UID (format: <name|uid>[:<group|gid>])"),
    values("--group-add", help="Add additional groups to join"),
    text("-w", "--workdir", help="Working directory inside the container"),
    text("--stop-signal", help="Signal to stop the container"),
    number("--stop-timeout", help="Timeout (in seconds) to stop a container"),
]
_IDENTITY: list[Decorator] = [
    text("--name", help="Assign a name to the container"),
    values("-l", "--label", help="Set meta data on a container"),
    values("--label-file", help="Read in a line delimited file of labels"),
    values("--annotation", help="Add an annotation to the container (passed through to the runtime)", metavar="map"),
    text("--cidfile", help="Write the container ID to the file"),
    text("--restart", help="Restart policy to apply when a container exits (default no)"),
    flag("--rm", help="Automatically remove the container and its anonymous volumes when it exits"),
    platform(),
    no_trust,
    click.option(
        "--pull", default="missing", metavar="string", help="Pull image before running: always, missing, never"
    ),
    flag("-q", "--quiet", help="Suppress the pull output"),
    text("--runtime", help="Runtime to use for this container"),
    text("--isolation", help="Container isolation technology"),
    flag("--use-api-socket", help="Bind mount the API's socket, and bring the credentials of registries"),
]
_STORAGE: list[Decorator] = [
    values("-v", "--volume", help="Bind mount a volume"),
    values("--mount", help="Attach a filesystem mount to the container", metavar="mount"),
    values("--tmpfs", help="Mount a tmpfs directory"),
    values("--volumes-from", help="Mount volumes from the specified container(s)"),
    text("--volume-driver", help="Optional volume driver for the container"),
    values("--storage-opt", help="Storage driver options for the container"),
    flag("--read-only", help="Mount the container's root filesystem as read only"),
    limit_flags.shm_size,
    values("--device", help="Add a host device to the container"),
    values("--device-cgroup-rule", help="Add a rule to the cgroup allowed devices list"),
    values("--gpus", help="Not supported: GPUs are given with --device", metavar="gpu-request"),
]
_NETWORK: list[Decorator] = [
    values("--network", "--net", "network", help="Connect a container to a network", metavar="network"),
    values("--network-alias", "--net-alias", "network_alias", help="Add network-scoped alias for the container"),
    values("-p", "--publish", help="Publish a container's port(s) to the host"),
    flag("-P", "--publish-all", help="Publish all exposed ports to random ports"),
    values("--expose", help="Expose a port or a range of ports"),
    text("-h", "--hostname", help="Container host name"),
    text("--domainname", help="Container NIS domain name"),
    text("--ip", help="IPv4 address (e.g., 172.30.100.104)"),
    text("--ip6", help="IPv6 address (e.g., 2001:db8::33)"),
    text("--mac-address", help="Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    values("--add-host", help="Add a custom host-to-IP mapping (host:ip)"),
    values("--dns", help="Set custom DNS servers"),
    values("--dns-option", "--dns-opt", "dns_option", help="Set DNS options"),
    values("--dns-search", help="Set custom DNS search domains"),
    values("--link", help="Add link to another container"),
    values("--link-local-ip", help="Container IPv4/IPv6 link-local addresses"),
]
_LIMITS: list[Decorator] = [
    limit_flags.memory,
    text("--memory-reservation", help="Memory soft limit", metavar="bytes"),
    limit_flags.memory_swap,
    number("--memory-swappiness", help="Tune container memory swappiness (0 to 100)"),
    text("--cpus", help="Number of CPUs", metavar="decimal"),
    limit_flags.cpu_shares,
    limit_flags.cpu_period,
    limit_flags.cpu_quota,
    number("--cpu-rt-period", help="Limit CPU real-time period in microseconds"),
    number("--cpu-rt-runtime", help="Limit CPU real-time runtime in microseconds"),
    number("--cpu-count", help="CPU count (Windows only)"),
    number("--cpu-percent", help="CPU percent (Windows only)"),
    text("--io-maxbandwidth", help="Maximum IO bandwidth of the system drive (Windows only)", metavar="bytes"),
    number("--io-maxiops", help="Maximum IOps of the system drive (Windows only)"),
    text("--kernel-memory", help="Kernel memory limit", metavar="bytes"),
    limit_flags.cpuset_cpus,
    limit_flags.cpuset_mems,
    number("--pids-limit", help="Tune container pids limit (set -1 for unlimited)"),
    number("--blkio-weight", help="Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    values("--blkio-weight-device", help="Block IO weight (relative device weight)"),
    values("--device-read-bps", help="Limit read rate (bytes per second) from a device"),
    values("--device-read-iops", help="Limit read rate (IO per second) from a device"),
    values("--device-write-bps", help="Limit write rate (bytes per second) to a device"),
    values("--device-write-iops", help="Limit write rate (IO per second) to a device"),
    limit_flags.ulimit,
    flag("--oom-kill-disable", help="Disable OOM Killer"),
    number("--oom-score-adj", help="Tune host's OOM preferences (-1000 to 1000)"),
    text("--cgroup-parent", help="Optional parent cgroup for the container"),
]
_ISOLATION: list[Decorator] = [
    values("--cap-add", help="Add Linux capabilities"),
    values("--cap-drop", help="Drop Linux capabilities"),
    flag("--privileged", help="Give extended privileges to this container"),
    values("--security-opt", help="Security Options"),
    values("--sysctl", help="Sysctl options", metavar="map"),
    text("--pid", help="PID namespace to use"),
    text("--ipc", help="IPC mode to use"),
    text("--uts", help="UTS namespace to use"),
    text("--userns", help="User namespace to use"),
    text("--cgroupns", help="Cgroup namespace to use (host|private)"),
]
_HEALTH: list[Decorator] = [
    text("--health-cmd", help="Command to run to check health"),
    text("--health-interval", help="Time between running the check", metavar="duration"),
    text("--health-timeout", help="Maximum time to allow one check to run", metavar="duration"),
    text("--health-start-period", help="Start period for the container to initialize", metavar="duration"),
    text("--health-start-interval", help="Time between running the check during the start period", metavar="duration"),
    number("--health-retries", help="Consecutive failures needed to report unhealthy"),
    flag("--no-healthcheck", help="Disable any container-specified HEALTHCHECK"),
    text("--log-driver", help="Logging driver for the container"),
    values("--log-opt", help="Log driver options"),
]


def container_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags of a container's making to a command."""
    for decorator in reversed([*_IDENTITY, *_PROCESS, *_STORAGE, *_NETWORK, *_LIMITS, *_ISOLATION, *_HEALTH]):
        function = decorator(function)
    return function
