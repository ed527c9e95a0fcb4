"""`hooper build --debug`: a shell in the state before the step that failed."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from hooper.api.errors import HooperError
from hooper.cli import terminal
from hooper.cli.errors import report
from hooper.cli.session import Session

if TYPE_CHECKING:
    from hooper.api.build_events import StepFailed


def enter(session: Session, failed: StepFailed) -> None:
    """Opens the shell where there is a terminal, and says how to get one otherwise. The image goes in any case."""
    if not failed.debug_image:
        return
    try:
        command = shlex.join(failed.debug_args)
        if not (os.isatty(terminal.STDIN) and os.isatty(terminal.STDOUT)):
            report("to enter the state before the failed step, run this command in a terminal", prefix="")
            report(f"the step's command: {command}", prefix="")
            return
        report("\nA shell in the state before the failed step; it and what you do there goes with `exit`.", prefix="")
        report(f"To run the step's command again:\n\n  {command}\n", prefix="")
        _shell(session, failed.debug_image)
    finally:
        _remove(session, failed.debug_image)


def _shell(session: Session, image: str) -> None:
    """As `hooper run -it --rm --entrypoint /bin/sh IMAGE`; how the shell ends is of no interest."""
    from hooper.cli.run import run

    words = ["--interactive", "--tty", "--rm", "--pull", "never", "--entrypoint", "/bin/sh", image]
    run.main(words, "hooper run", standalone_mode=False, obj=session)


def _remove(session: Session, image: str) -> None:
    try:
        # The shared connection may be broken, or in the middle of something.
        client = session.client.sibling()
        client.delete(f"/images/{image}", {"force": True})
    except HooperError as error:
        report(f"cannot remove the image of the failed step, {image}: {error}")
        sys.stderr.flush()
