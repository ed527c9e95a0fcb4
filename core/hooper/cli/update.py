"""`hooper update`."""

from __future__ import annotations

from typing import Any

import click

from hooper.api.errors import InvalidArgument
from hooper.cli import limit_flags, values
from hooper.cli.command import command
from hooper.cli.each import for_each
from hooper.cli.errors import warn
from hooper.cli.flags import number, text
from hooper.cli.session import Session
from hooper.cli.units import parse_cpus, parse_size


@command("update", "CONTAINER [CONTAINER...]")
@number("--blkio-weight", help="Block IO (relative weight), between 10 and 1000, or 0 to disable")
@limit_flags.cpu_period
@limit_flags.cpu_quota
@number("--cpu-rt-period", help="Limit the CPU real-time period in microseconds")
@number("--cpu-rt-runtime", help="Limit the CPU real-time runtime in microseconds")
@limit_flags.cpu_shares
@text("--cpus", help="Number of CPUs", metavar="decimal")
@limit_flags.cpuset_cpus
@limit_flags.cpuset_mems
@limit_flags.memory
@text("--memory-reservation", help="Memory soft limit", metavar="bytes")
@limit_flags.memory_swap
@number("--pids-limit", help="Tune container pids limit (set -1 for unlimited)")
@text("--restart", help="Restart policy to apply when a container exits")
@click.argument("containers", nargs=-1, required=True)
@click.pass_obj
def update(session: Session, /, containers: tuple[str, ...], **options: Any) -> int:
    """Update configuration of one or more containers."""
    body = _body(options)
    if not body:
        raise InvalidArgument("you must provide one or more flags", remedy="For example: hooper update -m 512m web")

    def change(name: str) -> None:
        answer = session.client.post(f"/containers/{name}/update", body) or {}
        for warning in answer.get("Warnings") or ():
            warn(warning)

    return for_each(containers, change)


def _body(options: dict[str, Any]) -> dict[str, Any]:
    def size(name: str) -> int | None:
        text_given = options[name.replace("-", "_")]
        return values.checked(f"--{name}", text_given, parse_size, "512m") if text_given else None

    cpus, swap = options["cpus"], options["memory_swap"]
    body = {
        "BlkioWeight": options["blkio_weight"],
        "CpuPeriod": options["cpu_period"],
        "CpuQuota": options["cpu_quota"],
        "CpuRealtimePeriod": options["cpu_rt_period"],
        "CpuRealtimeRuntime": options["cpu_rt_runtime"],
        "CpuShares": options["cpu_shares"],
        "CpusetCpus": options["cpuset_cpus"] or None,
        "CpusetMems": options["cpuset_mems"] or None,
        "NanoCpus": values.checked("--cpus", cpus, parse_cpus, "1.5") if cpus else None,
        "Memory": size("memory"),
        "MemoryReservation": size("memory-reservation"),
        "MemorySwap": -1 if swap == "-1" else size("memory-swap"),
        "PidsLimit": options["pids_limit"],
        "RestartPolicy": values.restart_policy(options["restart"]) if options["restart"] else None,
    }
    return {key: value for key, value in body.items() if value is not None}
