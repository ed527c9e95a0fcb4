"""RUN: from the instruction to the step of the graph. (Dockerfile reference: RUN, Here-documents.)"""

from __future__ import annotations

import posixpath

from hooper.api.build_graph import BindMount, InlineFile, InlineSource, Run, RunMount
from hooper.api.builder import BuildRequest
from hooper.api.errors import Forbidden
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.arguments import Arguments
from hooper_builder_dockerfile.heredocs import openers
from hooper_builder_dockerfile.run_mounts import MountPlanner
from hooper_builder_dockerfile.scope import Scope

SCRIPTS = "/dev/pipes"
"""Where a script that is written in the recipe stands while it runs; the place is BuildKit's."""


def run_step(
    step: ins.Run, scope: Scope, mounts: MountPlanner, *, request: BuildRequest, arguments: Arguments, title: str,
    fresh: bool,
) -> tuple[Run, str]:  # fmt: skip
    """The node, and the history's words. Fault for a wrong mount, Forbidden for what is not allowed."""
    _check_allowed(step, request)
    args, script = command(step)
    if step.shell_form:
        args = (*scope.shell(), *args)
    given = scope.run_arguments()
    hidden = {
        name: value
        for name, value in arguments.proxies().items()
        if name not in scope.environment and name not in given
    }
    run = Run(
        name=title + _summary(step),
        origin=step.location.origin(),
        fresh=fresh,
        base=scope.node,
        args=args,
        env=(*scope.variables(), *(f"{name}={value}" for name, value in given.items())),
        hidden_env=tuple(f"{name}={value}" for name, value in hidden.items()),
        cwd=scope.config.working_dir or "/",
        user=scope.config.user,
        hostname=arguments.hostname,
        network=step.network,
        insecure=step.security == "insecure",
        mounts=(*script, *mounts.mounts(step, scope)),
    )
    prefix = f"|{len(given)} " + "".join(f"{name}={value} " for name, value in given.items()) if given else ""
    return run, prefix + " ".join(args)


def command(step: ins.Run) -> tuple[tuple[str, ...], tuple[RunMount, ...]]:
    """The words to execute, without those of the shell, and what they need to be mounted.

    A here-document that stands alone is the script; one that begins with "#!" is a file that the shell executes.
    Others belong to the command, and the shell reads them.
    """
    if not step.shell_form or not step.heredocs:
        return step.args, ()
    text = step.args[0]
    opened = openers(text)
    if len(opened) == 1 and (opened[0].start, opened[0].end) == (0, len(text)):
        document = step.heredocs[0]
        if not document.content.startswith("#!"):
            return (document.content,), ()
        name = file_name(document.name)
        script = InlineFile(name, document.content.encode("utf-8", "surrogateescape"), 0o755)
        source = InlineSource(name="[internal] preparing inline document", files=(script,))
        return (f"{SCRIPTS}/{name}",), (BindMount(target=SCRIPTS, source=source),)
    bodies = "".join(f"\n{document.content}{document.name}" for document in step.heredocs)
    return (text + bodies,), ()


def file_name(name: str) -> str:
    """What the file of a here-document is called."""
    last = posixpath.basename(name.rstrip("/"))
    return "document" if last in ("", ".", "..") else last


def _summary(step: ins.Run) -> str:
    """The first line of a here-document, for the title."""
    lines = step.heredocs[0].content.strip().splitlines() if step.heredocs else []
    return f" ({lines[0]}{'...' if len(lines) > 1 else ''})" if lines else ""


def _check_allowed(step: ins.Run, request: BuildRequest) -> None:
    """What a recipe may not take for itself."""
    for wanted, entitlement in (
        (step.security == "insecure", "security.insecure"),
        (step.network == "host" and request.network_mode != "host", "network.host"),
    ):
        if wanted and entitlement not in request.allow:
            raise Forbidden(
                f"{entitlement} is not allowed",
                f"the recipe asks for it with --{entitlement.replace('.', '=')}",
                f"If you trust the recipe: --allow {entitlement}",
            )
