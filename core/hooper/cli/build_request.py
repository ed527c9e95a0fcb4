"""What the flags of `hooper build` ask for, in one value, and as the parameters of POST /build."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hooper.cli import build_flags, build_outputs, values
from hooper.cli.build_flags import Cache, Context, Secret
from hooper.cli.build_outputs import Output
from hooper.cli.errors import BadFlag
from hooper.cli.units import parse_size

STYLES = ("auto", "plain", "tty", "quiet", "rawjson")


class BuildFlags(NamedTuple):
    """All that is no plain parameter of the API, read and found good."""

    style: str
    check: bool
    outputs: list[Output]
    cache_from: list[Cache]
    cache_to: list[Cache]
    secrets: dict[str, Secret]
    agents: dict[str, tuple[str, ...]]
    contexts: dict[str, Context]
    annotations: dict[str, str]
    allow: list[str]
    fresh_stages: list[str]
    epoch: int | None
    debug: bool
    builder: str
    parameters: dict[str, Any]
    """Those of POST /build that every daemon knows."""

    @property
    def quiet(self) -> bool:
        """Whether the image's id is all that is shown."""
        return self.style == "quiet"

    def beyond_classic(self) -> list[str]:
        """The flags that a daemon without sessions of hooper's cannot follow."""
        given = {
            "--annotation": self.annotations,
            "--builder": self.builder,
            "--allow": self.allow,
            "--build-context": self.contexts,
            "--cache-to": self.cache_to,
            "--cache-from type=local": [one for one in self.cache_from if one.place],
            "--check": self.check,
            "--debug": self.debug,
            "--no-cache-filter": self.fresh_stages,
            "--output or --push": [one for one in self.outputs if one != Output("image", {})],
            "--secret": self.secrets,
            "--ssh": self.agents,
        }
        return [flag for flag, value in given.items() if value]


def read_flags(options: Mapping[str, Any], proxies: Mapping[str, str]) -> BuildFlags:
    """Reads all of them; BadFlag. `proxies`: arguments that every build has unless they are given."""
    style = values.one_of("--progress", options["progress"], STYLES) or "auto"
    for flag in ("provenance", "sbom"):
        if options[flag] not in ("", "false"):
            raise BadFlag(f"--{flag}", options[flag], "hooper attaches no attestations", f"--{flag}=false")
    call = values.one_of("--call", options["call"], ("build", "check"))
    push, load, tags = options["push"], options["load"], options["tag"]
    known_caches = build_flags.caches("--cache-from", options["cache_from"])
    arguments = {**proxies, **build_flags.arguments(options["build_arg"])}
    return BuildFlags(
        style="quiet" if options["quiet"] else style,
        check=options["check"] or call == "check",
        outputs=build_outputs.outputs(options["output"], tags, push=push, load=load),
        cache_from=known_caches,
        cache_to=build_flags.caches("--cache-to", options["cache_to"]),
        secrets=build_flags.secrets(options["secret"]),
        agents=build_flags.agents(options["ssh"]),
        contexts=build_flags.contexts(options["build_context"]),
        annotations=build_flags.annotated(options["annotation"]),
        allow=build_flags.entitlements(options["allow"]),
        fresh_stages=build_flags.stages(options["no_cache_filter"]),
        epoch=build_flags.source_date_epoch(),
        debug=options["debug"],
        builder=options["builder"],
        parameters=_parameters(options, arguments, known_caches),
    )


def _parameters(
    options: Mapping[str, Any], arguments: Mapping[str, str | None], caches: Iterable[Cache]
) -> dict[str, Any]:
    memory_swap = options["memory_swap"]
    return {
        "t": options["tag"],
        "buildargs": _json(arguments),
        "labels": _json(values.pairs("--label", options["label"])),
        "cachefrom": _json([one.attrs["ref"] for one in caches if one.type == "registry"]),
        "extrahosts": ",".join(values.hosts(options["add_host"])) or None,
        "ulimits": _json(values.ulimits(options["ulimit"])),
        "nocache": options["no_cache"] or None,
        "pull": options["pull"] or None,
        "rm": options["rm"],
        "forcerm": options["force_rm"] or None,
        "squash": options["squash"] or None,
        "target": options["target"] or None,
        "platform": options["platform"] or None,
        "isolation": options["isolation"] or None,
        "networkmode": options["network"] or None,
        "memory": _bytes("--memory", options["memory"]),
        "memswap": -1 if memory_swap == "-1" else _bytes("--memory-swap", memory_swap),
        "shmsize": _bytes("--shm-size", options["shm_size"]),
        "cpushares": options["cpu_shares"],
        "cpuperiod": options["cpu_period"],
        "cpuquota": options["cpu_quota"],
        "cpusetcpus": options["cpuset_cpus"] or None,
        "cpusetmems": options["cpuset_mems"] or None,
        "cgroupparent": options["cgroup_parent"] or None,
        "securityopt": _json(values.security_options(options["security_opt"])),
    }


def hooper_query(flags: BuildFlags) -> dict[str, Any]:
    """The parameters for a hooper daemon. Places of the client's stay here; a stream goes by number."""
    own = {
        "check": flags.check,
        "no_cache_stages": flags.fresh_stages,
        "contexts": {name: {"kind": one.kind, "value": one.value} for name, one in flags.contexts.items()},
        "cache_from": [{"Type": one.type, "Attrs": one.attrs} for one in flags.cache_from],
        "cache_to": [{"Type": one.type, "Attrs": one.attrs} for one in flags.cache_to],
        "allow": flags.allow,
        "annotations": flags.annotations,
        "debug": flags.debug,
        "source_date_epoch": flags.epoch,
        "builder": flags.builder,
    }
    # A second of 0 is one.
    given = {key: value for key, value in own.items() if value or (value == 0 and value is not False)}
    return {
        **flags.parameters,
        "cachefrom": None,
        "outputs": _json([{"Type": one.type, "Attrs": one.attrs} for one in flags.outputs]),
        "progress": "events",
        "hooper": _json(given),
    }


def _json(value: Any) -> str | None:
    return json.dumps(value) if value else None


def _bytes(name: str, value: str) -> int | None:
    return values.checked(name, value, parse_size, "512m") if value else None
