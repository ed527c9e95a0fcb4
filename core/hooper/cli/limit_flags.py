"""The flags of limits that `run`, `update` and `build` share."""

from __future__ import annotations

from hooper.cli.flags import number, text, values

memory = text("-m", "--memory", help="Memory limit", metavar="bytes")
memory_swap = text(
    "--memory-swap", help="Swap limit equal to memory plus swap: -1 to enable unlimited swap", metavar="bytes"
)
cpu_shares = number("-c", "--cpu-shares", help="CPU shares (relative weight)")
cpu_period = number("--cpu-period", help="Limit CPU CFS (Completely Fair Scheduler) period")
cpu_quota = number("--cpu-quota", help="Limit CPU CFS (Completely Fair Scheduler) quota")
cpuset_cpus = text("--cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)")
cpuset_mems = text("--cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)")
shm_size = text("--shm-size", help="Size of /dev/shm", metavar="bytes")
ulimit = values("--ulimit", help="Ulimit options", metavar="ulimit")
