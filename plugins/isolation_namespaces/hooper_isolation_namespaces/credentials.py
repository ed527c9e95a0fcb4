"""Giving up rights: limits, user, capabilities and the system call filter of a container's process."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Sequence

from hooper.api import oci
from hooper.api.errors import InvalidArgument, StartFailed
from hooper.linux import capabilities, seccomp, users
from hooper.linux import syscalls as sys

_UNLIMITED = (1 << 63) - 1
_APPARMOR_FILES = ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec")


def identity(root: int, user: oci.User) -> users.Identity:
    """The user of a process, looked up below `root`; StartFailed if it is not there."""
    return users.resolve(root, *_asked(user))


def identity_with(read: users.Read, user: oci.User) -> users.Identity:
    """As `identity`, in files that have been read."""
    return users.resolve_with(read, *_asked(user))


def _asked(user: oci.User) -> tuple[str, list[str]]:
    numeric = not user.username and (user.uid or user.gid)
    name = f"{user.uid}:{user.gid}" if numeric else user.username
    return name, [*map(str, user.additional_gids), *user.group_names]


def set_rlimits(rlimits: Sequence[oci.Rlimit]) -> None:
    """Sets resource limits. Without CAP_SYS_RESOURCE a hard limit is not raised: the present one stays."""
    for limit in rlimits:
        number = getattr(resource, limit.type, None)
        if number is None:
            raise InvalidArgument(f"unknown resource limit {limit.type}")
        soft, hard = _rlim(limit.soft), _rlim(limit.hard)
        try:
            resource.setrlimit(number, (soft, hard))
        except ValueError:
            present = resource.getrlimit(number)[1]
            soft, hard = clamp(soft, present), clamp(hard, present)
            resource.setrlimit(number, (soft, hard))


def _rlim(value: int) -> int:
    return resource.RLIM_INFINITY if value < 0 or value > _UNLIMITED else value


def clamp(value: int, most: int) -> int:
    """The lower of two limits, where -1 is none."""
    if most == resource.RLIM_INFINITY:
        return value
    return most if value == resource.RLIM_INFINITY else min(value, most)


def set_oom_score(value: int | None) -> None:
    """Sets how soon the kernel kills the process for memory; lowering it may be refused, which is passed over.

    None is the ordinary 0: what protects hooper itself (OOMScoreAdjust= of its unit) is not for containers.
    """
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except PermissionError:
        # In a user namespace the file is not the process's own; only what was asked for matters then.
        if value is None:
            return
        raise
    try:
        os.write(fd, str(value or 0).encode())
    except PermissionError:
        pass
    finally:
        os.close(fd)


def set_apparmor(profile: str, files: Sequence[str] = _APPARMOR_FILES) -> None:
    """Confines the program that is executed next; StartFailed if the kernel does not know the profile.

    (apparmor(7), kernel: Documentation/admin-guide/LSM/apparmor.rst; the first file exists since Linux 5.8.)
    """
    path = next((file for file in files if os.path.exists(file)), files[-1])
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, f"exec {profile}".encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise StartFailed(
            "unable to start container process",
            f"unable to apply apparmor profile: {profile}: {os.strerror(error.errno or 0).lower()}",
            "Load the profile with apparmor_parser, or leave --security-opt apparmor= away.",
        ) from error


def give_stdio(uid: int, fds: Sequence[int] = (0, 1, 2)) -> None:
    """Lets the user open /dev/stdout and its like again, which checks the owner of the pipe or terminal."""
    for fd in fds:
        found = os.fstat(fd)
        if found.st_uid != uid and (stat.S_ISFIFO(found.st_mode) or os.isatty(fd)):
            try:
                os.fchown(fd, uid, -1)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL, errno.EROFS):
                    raise


def enter_directory(path: str, *, make: bool) -> Callable[[], None]:
    """Changes to the working directory, which is made if missing and `make` is set.

    The result is to be called once the user has changed: a directory that root may not enter (on NFS) is
    tried again then.
    """
    try:
        try:
            os.chdir(path)
        except FileNotFoundError:
            if not make:
                raise
            os.makedirs(path, 0o755, exist_ok=True)
            os.chdir(path)
    except PermissionError:
        return lambda: _enter_as_user(path)
    except OSError as error:
        # As in Docker, an exec that cannot enter its directory could not be executed: 126.
        raise _no_directory(path, error, 127 if make else 126) from None
    return lambda: None


def _enter_as_user(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        raise _no_directory(path, error) from None


def _no_directory(path: str, error: OSError, code: int = 127) -> StartFailed:
    code = 126 if error.errno == errno.EACCES else code
    text = os.strerror(error.errno or 0).lower()
    return StartFailed(
        "unable to start container process",
        f'chdir to cwd ("{path}") set in config.json failed: {text}',
        "Choose another working directory.",
        code,
    )


def drop(
    process: oci.Process,
    who: users.Identity,
    filter: seccomp.Filter | None,
    last_capability: int,
    *,
    make_directory: bool,
) -> None:
    """Becomes the user with just the rights that the process is to have.

    `make_directory`: a missing working directory is made.
    """
    enter = enter_directory(process.cwd or "/", make=make_directory)
    if who.uid:
        give_stdio(who.uid)
    if process.no_new_privileges:
        sys.prctl(sys.PR_SET_NO_NEW_PRIVS, 1)
    elif filter:
        filter.install()  # later there is no CAP_SYS_ADMIN to install it with
    _become(process.capabilities, who, last_capability)
    enter()
    if process.no_new_privileges and filter:
        filter.install()


def _become(caps: oci.Capabilities | None, who: users.Identity, last: int) -> None:
    if caps is not None:
        capabilities.drop_bounding(capabilities.mask(caps.bounding), last)
        sys.prctl(sys.PR_SET_KEEPCAPS, 1)
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    if caps is not None:
        sys.prctl(sys.PR_SET_KEEPCAPS, 0)
        known = (1 << last + 1) - 1
        inheritable = capabilities.mask(caps.inheritable) | capabilities.mask(caps.ambient)
        sys.capset(
            capabilities.mask(caps.effective) & known,
            capabilities.mask(caps.permitted) & known,
            inheritable & known,
        )
        if caps.ambient:
            capabilities.raise_ambient(capabilities.mask(caps.ambient) & known)
