"""The content of a volume that arrives: unpacked aside, then put in its place so that a crash can finish or undo it.

<staged>/new    what was received
<staged>/old    what was in its place, while it is not settled
<staged>/copied marks a place that cannot be renamed to (another file system, a directory of the host)
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hooper.api.errors import Conflict, DataLoss
from hooper.content.removal import remove
from hooper.content.trees import TreeCopier

_ELSEWHERE = (errno.EXDEV, errno.EBUSY, errno.EINVAL, errno.EPERM, errno.EROFS)


def put_in(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: makes `staged`'s content that of the directory `real`. Harmless if it was done before.

    `home`: only directories below it are replaced as a whole, in others the content is. Conflict if `real` is not
    empty and is not to be replaced (`replace`), or cannot be.
    """
    staged, real = Path(arguments["staged"]), Path(arguments["real"])
    new, old = staged / "new", staged / "old"
    if not new.exists():
        return
    untouched = not old.exists() and not (staged / "copied").exists()
    if untouched and not arguments["replace"] and os.listdir(real):
        raise Conflict(
            f"the directory {real} of a volume is not empty",
            "it was empty, or not there, when the move began",
            "Move again, and say --volumes=reuse or --volumes=replace.",
        )
    if (staged / "copied").exists() or not _exchange(new, old, real, Path(arguments["home"])):
        _copy(staged, new, real)


def _exchange(new: Path, old: Path, real: Path, home: Path) -> bool:
    if not old.exists():
        if home not in real.resolve().parents:
            return False
        try:
            real.rename(old)
        except OSError as error:
            if error.errno not in _ELSEWHERE:
                raise
            return False
    # A directory that was made anew after a crash is empty, and gives way.
    new.rename(real)
    return True


def _copy(staged: Path, new: Path, real: Path) -> None:
    mark = staged / "copied"
    if not mark.exists():
        if os.listdir(real):
            raise Conflict(
                f"the directory {real} of a volume is not empty",
                "it is no directory of this engine, so its content is not replaced",
                "Empty it, or say --volumes=reuse.",
            )
        mark.touch()
    source = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        TreeCopier(replace=True).copy_directory(source, os.fsencode(real), os.fstat(source))
    finally:
        os.close(source)
    remove(os.fsencode(new))


def take_out(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: undoes `put_in`, whatever it came to."""
    staged, real = Path(arguments["staged"]), Path(arguments["real"])
    new, old = staged / "new", staged / "old"
    if (staged / "copied").exists():
        for name in os.listdir(real):
            remove(os.fsencode(real / name))
    elif old.exists():
        if not new.exists():
            real.rename(new)
        old.rename(real)


def check_state(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: the engine's own files of a container (`path`) are plain files: the engine will write to them.

    DataLoss otherwise. Names that begin with `old` begin with `new` afterwards.
    """
    root, old, new = Path(arguments["path"]), arguments["old"], arguments["new"]
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            status = os.lstat(os.path.join(folder, name))
            plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
            if not plain and not stat.S_ISDIR(status.st_mode):
                raise DataLoss("this is no container that hooper saved", f"{name[:100]!r} among its logs is no file")
        for name in files:
            if name.startswith(old) and old != new:
                os.rename(os.path.join(folder, name), os.path.join(folder, new + name[len(old) :]))
