"""The devices that a container may use: nodes in its /dev, and the rules of its cgroup."""

from __future__ import annotations

import os
import stat

from hooper.api import oci
from hooper.api.errors import InvalidArgument
from hooper.api.model import DeviceMapping, HostConfig
from hooper.linux import defaults

# Docker's default device rules: mknod of anything, and the use of these.
_DEVICE_RULES = [
    oci.DeviceRule(allow=False, access="rwm"),
    oci.DeviceRule(allow=True, type="c", access="m"),
    oci.DeviceRule(allow=True, type="b", access="m"),
    *(
        oci.DeviceRule(allow=True, type="c", major=major, minor=minor, access="rwm")
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
    ),
]


def rules(host: HostConfig) -> list[oci.DeviceRule]:
    """What its programs may do with which devices."""
    if host.privileged:
        return [oci.DeviceRule(allow=True, access="rwm")]
    found = list(_DEVICE_RULES)
    for mapping in host.devices or ():
        access = mapping.cgroup_permissions or "rwm"
        found += [
            oci.DeviceRule(allow=True, type=device.type, major=device.major, minor=device.minor, access=access)
            for device in _mapped(mapping)
        ]
    return found + [parsed_rule(text) for text in host.device_cgroup_rules or ()]


def parsed_rule(text: str) -> oci.DeviceRule:
    """A --device-cgroup-rule; InvalidArgument."""
    try:
        kind, numbers, access = text.split()
        major, minor = (None if part == "*" else int(part) for part in numbers.split(":"))
        if kind not in "abc" or set(access) - set("rwm"):
            raise ValueError(text)
    except ValueError:
        raise InvalidArgument(
            f"invalid device cgroup rule format: '{text}'",
            remedy='Write TYPE MAJOR:MINOR ACCESS, such as "c 189:* rwm".',
        ) from None
    return oci.DeviceRule(allow=True, type=kind, major=major, minor=minor, access=access)


def nodes(host: HostConfig) -> list[oci.Device]:
    """The nodes in its /dev besides those that every container has."""
    if host.privileged:
        renamed = [each for each in host.devices or () if each.path_in_container != each.path_on_host]
        return _all_of_host() + [device for mapping in renamed for device in _mapped(mapping)]
    return [device for mapping in host.devices or () for device in _mapped(mapping)]


def check_permissions(mapping: DeviceMapping) -> None:
    """InvalidArgument for what is no access to a device, or no place for it."""
    access = mapping.cgroup_permissions
    if set(access) - set("rwm") or len(set(access)) != len(access):
        raise InvalidArgument(f"invalid device mode: {access}", remedy="It is made of r, w and m.")
    if mapping.path_in_container and not mapping.path_in_container.startswith("/"):
        raise InvalidArgument(f"{mapping.path_in_container} is not an absolute path", remedy="Begin it with /.")


def _mapped(mapping: DeviceMapping) -> list[oci.Device]:
    """The device, or all that are below a directory."""
    if not os.path.isdir(mapping.path_on_host):
        return [_device(mapping)]
    found = []
    base = mapping.path_in_container or mapping.path_on_host
    for folder, _, files in os.walk(mapping.path_on_host):
        for name in sorted(files):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                inside = os.path.join(base, os.path.relpath(path, mapping.path_on_host))
                found.append(_device(DeviceMapping(path_on_host=path, path_in_container=inside)))
    return found


def _device(mapping: DeviceMapping) -> oci.Device:
    try:
        found = os.stat(mapping.path_on_host)
    except OSError as error:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{mapping.path_on_host}"',
            (error.strerror or str(error)).lower(),
            "Name a device node of this host, or a directory of them.",
        ) from error
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{mapping.path_on_host}"',
            "not a device node",
            "Mount files and directories with -v.",
        )
    return oci.Device(
        path=mapping.path_in_container or mapping.path_on_host,
        type=kind,
        major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev),
        file_mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
    )


def _all_of_host() -> list[oci.Device]:
    found = []
    for folder, folders, files in os.walk("/dev"):
        folders[:] = [name for name in folders if name not in ("pts", "shm", "mqueue", "fd")]
        for name in files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and path not in defaults.DEVICE_PATHS:
                found.append(_device(DeviceMapping(path_on_host=path)))
    return found
