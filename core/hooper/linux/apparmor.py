"""AppArmor: whether the kernel confines programs by it, and the profile that containers usually have.

(apparmor(7), apparmor.d(5); the kernel's Documentation/admin-guide/LSM/apparmor.rst)
"""

from __future__ import annotations

import os
import subprocess
from functools import cache

from hooper.api.errors import Unsupported

DEFAULT = "hooper-default"
UNCONFINED = "unconfined"
_PARSER = "apparmor_parser"
_PATIENCE_S = 60

_PROFILE = f"""
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  # Files, users and networks are what namespaces, capabilities and the system call filter leave of them.
  file,
  capability,
  network,
  unix,
  umount,
  deny mount,

  # The host stops it; besides, its processes are among themselves.
  signal (receive) peer=unconfined,
  signal (send, receive) peer={DEFAULT},
  ptrace (trace, read, tracedby, readby) peer={DEFAULT},

  # Of /proc it may change what is of a process, and the limits of shared memory.
  deny /proc/* w,
  deny /proc/{{acpi,asound,bus,driver,dynamic_debug,fs,irq,scsi,sysvipc,tty}}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/{{kcore,sysrq-trigger,kmem,mem}} rwklx,

  # Of /sys it may change its cgroups, and not see what tells of the hardware's secrets.
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"""

_default = ""


@cache
def is_enabled(root: str = "/") -> bool:
    """The kernel confines by it, and its files are there; `root` is where /sys is. It is looked at once."""
    try:
        with open(f"{root}sys/module/apparmor/parameters/enabled") as file:
            return file.read(1) == "Y" and os.path.exists(f"{root}sys/kernel/security/apparmor")
    except OSError:
        return False


def is_loaded(profile: str, root: str = "/") -> bool:
    """The kernel knows the profile. Needs root's rights."""
    try:
        with open(f"{root}sys/kernel/security/apparmor/profiles") as file:
            return any(line.rpartition(" (")[0] == profile for line in file)
    except OSError:
        return False


def load(parser: str = _PARSER) -> None:
    """Gives the default profile to the kernel, in place of an older one. Unsupported if it does not take it."""
    what = f"loading the AppArmor profile {DEFAULT}"
    try:
        done = subprocess.run(
            [parser, "--replace", "--skip-cache", "--quiet"],
            input=_PROFILE,
            text=True,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except FileNotFoundError:
        raise Unsupported(what, f"{parser} is missing on this host", "Install apparmor (Debian's name).") from None
    except OSError as error:
        raise Unsupported(what, f"{parser}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise Unsupported(what, f"{parser} took more than {_PATIENCE_S} s") from None
    if done.returncode != 0:
        raise Unsupported(what, done.stderr.strip()[-300:] or f"{parser} ended with {done.returncode}")


def prepare() -> None:
    """Makes the default profile `default`, where there is AppArmor. Once a daemon.

    As `load`, unless the kernel has the profile from elsewhere.
    """
    global _default
    if not is_enabled():
        return
    try:
        load()
    except Unsupported:
        if not is_loaded(DEFAULT):
            raise
    _default = DEFAULT


def default() -> str:
    """The profile of a container that asks for none: "" where it could not be prepared."""
    return _default
