"""The flags of `hooper build`, in the groups of its help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hooper.cli import limit_flags
from hooper.cli.command import Command
from hooper.cli.flags import flag, no_trust, text
from hooper.cli.flags import platform as platform_flag
from hooper.cli.flags import values as several

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

GROUPS: dict[str, list[Decorator]] = {
    "What is built": [
        text("-f", "--file", "dockerfile", help='Name of the Dockerfile (default "PATH/Dockerfile"); - is stdin'),
        text("--builder", help="Name of the builder plugin that reads it; by itself it is told from the file's name"),
        text("--target", help="Set the target build stage to build"),
        several("--build-arg", help="Set build-time variables; NAME alone takes its value of the environment"),
        several("--build-context", help="Another context: NAME=PATH, =URL, =docker-image://IMAGE, =oci-layout://PATH"),
        platform_flag(),
        flag("--pull", help="Always attempt to pull a newer version of the image"),
        several("--secret", help="A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=VARIABLE]"),
        several("--ssh", help="An SSH agent, or keys, for RUN --mount=type=ssh: default|ID[=SOCKET|KEY[,KEY]]"),
        flag("--compress", help="Compress the build context with gzip, where it is sent as an archive"),
    ],
    "What becomes of it": [
        several("-t", "--tag", help='Name and optionally a tag in the "name:tag" format'),
        several("--label", help="Set metadata for an image"),
        several("--annotation", help="Add an annotation to the image's manifest: KEY=VALUE"),
        several("-o", "--output", help="Where it goes: a directory, - for a tar on stdout, or type=T,dest=PATH"),
        flag("--push", help="Push the image: short for --output type=image,push=true"),
        flag("--load", help="Keep it as an image, beside other outputs; without any that is so anyway"),
        flag("--squash", help="Squash newly built layers into a single new layer"),
        text("--iidfile", help="Write the image ID to the file"),
        text("--metadata-file", help="Write what was made, as JSON, to the file"),
    ],
    "Cache": [
        flag("--no-cache", help="Do not use cache when building the image"),
        several("--no-cache-filter", help="Do not cache these stages"),
        several("--cache-from", help="Where finished steps come from: NAME, or type=registry|local,ref=|src="),
        several("--cache-to", help="Where finished steps go: NAME, or type=inline|registry|local,ref=|dest=,mode="),
    ],
    "What is shown": [
        text("--progress", help="How progress is shown: auto, plain, tty, quiet or rawjson"),
        flag("-q", "--quiet", help="Suppress the build output and print image ID on success"),
        flag("--check", help="Show what is doubtful in the Dockerfile, and build nothing"),
        text("--call", help='"build", or "check", as --check'),
        flag("--debug", help="Open a shell in the state before a step that fails"),
        text("--trace", help="Write a timeline to the file, for Perfetto or chrome://tracing", metavar="file"),
    ],
    "How steps run": [
        several("--add-host", help="Add a custom host-to-IP mapping (host:ip)"),
        text("--network", help="Set the networking mode for the RUN instructions: default, none, host, or a network"),
        several("--allow", help="Allow security.insecure or network.host to steps that ask for it"),
        several("--security-opt", help="Security options"),
        limit_flags.shm_size,
        limit_flags.ulimit,
        limit_flags.memory,
        limit_flags.memory_swap,
        limit_flags.cpu_shares,
        limit_flags.cpu_period,
        limit_flags.cpu_quota,
        limit_flags.cpuset_cpus,
        limit_flags.cpuset_mems,
        text("--cgroup-parent", help="Set the parent cgroup for the RUN instructions during build"),
        text("--isolation", help="Container isolation technology"),
    ],
    "For scripts that give them": [
        click.option("--rm/--no-rm", default=True, help="Remove intermediate containers; hooper always does"),
        flag("--force-rm", help="The same of those that failed"),
        text("--provenance", help="Attestations: only false"),
        text("--sbom", help="Attestations: only false"),
        no_trust,
    ],
}


def build_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a function all of them."""
    for group in reversed(GROUPS.values()):
        for decorator in reversed(group):
            function = decorator(function)
    return function


class BuildCommand(Command):
    """Shows its flags by groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        params = iter([one for one in self.get_params(ctx) if isinstance(one, click.Option)])
        shown: dict[str, list[tuple[str, str]]] = {}
        for title, group in GROUPS.items():
            options = [next(params) for _ in group]
            shown[title] = [record for option in options if (record := option.get_help_record(ctx))]
        shown["For scripts that give them"] += [record for one in params if (record := one.get_help_record(ctx))]
        # One width for all, so that the columns of the groups are below each other.
        width = min(max(len(names) for records in shown.values() for names, _ in records), 28)
        for title, records in shown.items():
            with formatter.section(title):
                formatter.write_dl([(names.ljust(width), help) for names, help in records], col_max=width + 2)
