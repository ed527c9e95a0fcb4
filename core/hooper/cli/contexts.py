"""`hooper context`: names for the daemons that one works with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from hooper.api.errors import HooperError, InvalidArgument
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.each import for_each
from hooper.cli.errors import BadFlag, report, warn
from hooper.cli.flags import flag, text
from hooper.cli.listing import show_list
from hooper.cli.output import print_things
from hooper.cli.session import Session
from hooper.cli.values import boolean
from hooper.client import contexts
from hooper.client.address import Tls, parse_address
from hooper.client.contexts import Context
from hooper.client.home import DEFAULT

_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Current": "CURRENT",
    "Error": "ERROR",
}
_KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")
_EXAMPLE = "--docker host=ssh://me@example"
_endpoint = text("--docker", help="The endpoint: host=ADDRESS[,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=true]")
_description = text("--description", help="Description of the context")
_name = click.argument("name")


@command("ls", "")
@text("--format", help="Format output: table, table TEMPLATE, json, or a Go template")
@flag("-q", "--quiet", help="Only show context names")
@click.pass_obj
def ls(session: Session, format: str, quiet: bool) -> None:
    """List contexts."""
    current = session.context
    known = contexts.everything()
    if current == DEFAULT:
        known[0] = known[0]._replace(host=str(session.address))
    rows = [_row(context, current, table=format.startswith("table") or not format) for context in known]
    columns = ("Name", "Description", "DockerEndpoint", "Error")
    show_list(rows, _HEADERS, columns, format=format, quiet=quiet, key="Name")
    if variable := next((name for name in ("HOOPER_HOST", "DOCKER_HOST") if os.environ.get(name)), ""):
        warn(f"{variable} is set and overrides the context")


def _row(context: Context, current: str, *, table: bool) -> dict[str, Any]:
    error = ""
    try:
        parse_address(context.host)
    except HooperError as failure:
        error = failure.what
    here = context.name == current
    return {
        "Current": here,
        "Name": f"{context.name} *" if table and here else context.name,
        "Description": humanise.shorten(context.description, 60) if table else context.description,
        "DockerEndpoint": context.host,
        "Error": humanise.shorten(error, 45) if table else error,
    }


@command("create", "CONTEXT")
@_description
@_endpoint
@text("--from", "source", help="Create the context from a named context")
@_name
def create(name: str, description: str, docker: str, source: str) -> None:
    """Create a context."""
    contexts.check_name(name)
    base = contexts.load(source) if source else Context(name, "")
    made = _changed(base._replace(name=name), docker, description)
    if not made.host:
        made = made._replace(host=contexts.load(DEFAULT).host)
    contexts.save(made, new=True)
    print(name)
    report(f'Successfully created context "{name}"', prefix="")


@command("update", "CONTEXT")
@_description
@_endpoint
@_name
def update(name: str, description: str, docker: str) -> None:
    """Update a context."""
    contexts.check_name(name)
    contexts.save(_changed(contexts.load(name), docker, description), new=False)
    print(name)
    report(f'Successfully updated context "{name}"', prefix="")


def _changed(context: Context, docker: str, description: str) -> Context:
    """The context with what --docker and --description say."""
    context = context._replace(description=description or context.description)
    given = _fields(docker)
    if "from" in given:
        source = contexts.load(given["from"])
        context = context._replace(host=source.host, tls=source.tls)
    host = given.get("host", context.host)
    if not set(given) & {"ca", "cert", "key", "skip-tls-verify"}:
        return context._replace(host=host)
    ca, certificate, key = (os.path.expanduser(given.get(name, "")) for name in ("ca", "cert", "key"))
    skip = boolean("--docker", given.get("skip-tls-verify", "false"))
    return context._replace(host=host, tls=Tls(ca, certificate, key, verify=not skip))


def _fields(docker: str) -> dict[str, str]:
    fields = dict(part.strip().partition("=")[::2] for part in docker.split(",") if part)
    if unknown := next((key for key in fields if key not in _KEYS), ""):
        raise BadFlag("--docker", docker, f'"{unknown}" is none of {", ".join(_KEYS)}', _EXAMPLE)
    return fields


@command("use", "CONTEXT")
@_name
def use(name: str) -> None:
    """Set the current context."""
    contexts.use(name)
    print(name)
    report(f'Current context is now "{name}"', prefix="")


@command("show", "")
@click.pass_obj
def show(session: Session) -> None:
    """Print the name of the current context."""
    print(session.context)


@command("rm", "CONTEXT [CONTEXT...]")
@flag("-f", "--force", help="Force the removal of a context in use")
@click.argument("names", nargs=-1, required=True)
def rm(names: tuple[str, ...], force: bool) -> int:
    """Remove one or more contexts."""
    return for_each(names, lambda name: contexts.remove(name, force=force))


@command("inspect", "[CONTEXT] [CONTEXT...]")
@text("-f", "--format", help="Format output using a custom template: json, or a Go template")
@click.argument("names", nargs=-1)
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], format: str) -> int:
    """Display detailed information on one or more contexts."""
    found, code = [], 0
    for name in names or (session.context,):
        try:
            found.append(_details(contexts.load(name)))
        except HooperError as error:
            report(error)
            code = 1
    print_things(found, format)
    return code


def _details(context: Context) -> Mapping[str, Any]:
    tls = context.tls
    meta, files = contexts.place(context.name)
    stored = [os.path.basename(file) for file in (tls.ca, tls.certificate, tls.key) if file] if tls else []
    in_store = context.name != DEFAULT
    description = {"Description": context.description} if context.description and in_store else {}
    return {
        "Name": context.name,
        "Metadata": {**context.metadata, **description},
        "Endpoints": {"docker": {"Host": context.host, "SkipTLSVerify": bool(tls and not tls.verify)}},
        "TLSMaterial": {"docker": stored} if stored else {},
        "Storage": {
            "MetadataPath": str(meta) if in_store else "<IN MEMORY>",
            "TLSPath": str(files) if in_store else "<IN MEMORY>",
        },
    }


@command("export", "CONTEXT [FILE|-]")
@_name
@click.argument("file", required=False, default="")
def export(name: str, file: str) -> None:
    """Export a context to a tar archive FILE or a tar stream on STDOUT."""
    from hooper.cli.transfer import refuse_terminal

    if name == DEFAULT:
        raise InvalidArgument('context "default" cannot be exported', remedy="It is each host's own.")
    if file == "-":
        refuse_terminal("")
        contexts.pack(contexts.load(name), sys.stdout.buffer)
        return
    target = file or f"{name}.dockercontext"
    context = contexts.load(name)
    # Its keys are nobody else's business.
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        contexts.pack(context, out)
    report(f'Written file "{target}"', prefix="")


@command("import", "CONTEXT FILE|-")
@_name
@click.argument("file")
def import_context(name: str, file: str) -> None:
    """Import a context from a tar file."""
    contexts.check_name(name)
    with sys.stdin.buffer if file == "-" else open(file, "rb") as source:
        contexts.unpack(name, source)
    print(name)
    report(f'Successfully imported context "{name}"', prefix="")
