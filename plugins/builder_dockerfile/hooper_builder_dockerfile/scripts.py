"""RUN: the words to execute."""

from __future__ import annotations

from collections.abc import Sequence

from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.heredocs import Heredoc, openers


def run_command(step: ins.Run, shell: Sequence[str]) -> tuple[str, ...]:
    """The exec form as it is, the shell form for the shell.

    A here-document that stands alone is the script; one that begins with "#!" is run by that interpreter.
    Others belong to the command, and the shell reads them.
    """
    if not step.shell_form:
        return step.args
    command = step.args[0]
    if not step.heredocs:
        return (*shell, command)
    opened = openers(command)
    if len(opened) == 1 and (opened[0].start, opened[0].end) == (0, len(command)):
        document = step.heredocs[0]
        if document.content.startswith("#!"):
            return (*shell, _interpreted(document))
        return (*shell, document.content)
    bodies = "".join(f"\n{document.content}{document.name}" for document in step.heredocs)
    return (*shell, command + bodies)


def _interpreted(document: Heredoc) -> str:
    """The shell gives the script to its interpreter as a file, on descriptor 3."""
    interpreter = document.content[2:].split("\n", 1)[0].strip()
    name = "HOOPER_SCRIPT"
    while name in document.content:
        name += "_"
    return f"exec {interpreter} /dev/fd/3 3<<'{name}'\n{document.content}{name}\n"
