"""`hooper build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hooper.cli.build_context import find_source
from hooper.cli.build_options import BuildCommand, build_options
from hooper.cli.build_request import read_flags
from hooper.cli.errors import GENERIC, report
from hooper.cli.session import Session
from hooper.cli.settings import proxies
from hooper.client.errors import ApiError


@click.command("build", cls=BuildCommand, usage="PATH | URL | -")
@build_options
@click.argument("source")
@click.pass_obj
def build(session: Session, /, source: str, **options: Any) -> int:
    """Build an image from a Dockerfile."""
    flags = read_flags(options, proxies(str(session.address)))
    if options["trace"]:
        from hooper.cli.build_trace import check_trace

        check_trace(options["trace"])
    found = find_source(source, options["dockerfile"])
    if speaks_hooper(session):
        from hooper.cli.build_run import run_build

        return run_build(session, found, flags, options)
    from hooper.cli.build_classic import build_classic

    try:
        identifier = build_classic(session, found, flags, options)
    except ApiError as error:
        report(error)
        return step_code(error)
    if flags.quiet:
        print(identifier)
    if options["iidfile"]:
        Path(options["iidfile"]).write_text(identifier, encoding="ascii")
    return 0


def speaks_hooper(session: Session) -> bool:
    """Whether the daemon is hooper, which has sessions."""
    client = session.client
    return bool(client.prefix) and client.server_headers.get("server", "").lower().startswith("hooper/")


def step_code(error: ApiError) -> int:
    """The exit code for a build that failed: a command that failed tells its own in the place of a status."""
    return error.status if 0 < error.status < 256 else GENERIC
