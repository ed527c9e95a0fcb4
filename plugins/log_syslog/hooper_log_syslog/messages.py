"""Messages of the syslog protocols (RFC 3164, RFC 5424); pure but for the time zone.

Every one ends with a newline, which is what parts them on a stream (RFC 6587, 3.4.2); over TLS the newer format is
framed by its length instead (RFC 5425, 4.3).
"""

from __future__ import annotations

import time
from collections.abc import Callable

ERROR, INFORMATIONAL = 3, 6
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Header = Callable[[int, int], bytes]
"""(priority, nanoseconds since 1970) -> what comes before the text."""


def priority(facility: int, stream: str) -> int:
    return facility * 8 + (ERROR if stream == "stderr" else INFORMATIONAL)


def header(form: str, hostname: str, tag: str, pid: int) -> Header:
    """Of `form`: "" (what a host's own server takes), rfc3164, rfc5424 or rfc5424micro."""
    if form.startswith("rfc5424"):
        return lambda level, time_ns: (
            f"<{level}>1 {_iso(time_ns, form == 'rfc5424micro')} {hostname} {tag} {pid} {tag} - ".encode()
        )
    place = f" {hostname}" if form == "rfc3164" else ""
    return lambda level, time_ns: f"<{level}>{_stamp(time_ns)}{place} {tag}[{pid}]: ".encode()


def counted(message: bytes) -> bytes:
    """Framed by its length."""
    return b"%d %s" % (len(message), message)


def _stamp(time_ns: int) -> str:
    """Local time, such as "Jan  2 15:04:05": English whatever the locale."""
    local = time.localtime(time_ns // 1_000_000_000)
    return f"{MONTHS[local.tm_mon - 1]} {local.tm_mday:2} {local.tm_hour:02}:{local.tm_min:02}:{local.tm_sec:02}"


def _iso(time_ns: int, micro: bool) -> str:
    """Local time with its offset from UTC."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    local = time.localtime(seconds)
    fraction = f".{rest // 1000:06}" if micro else ""
    minutes = abs(local.tm_gmtoff) // 60
    sign = "-" if local.tm_gmtoff < 0 else "+"
    zone = f"{sign}{minutes // 60:02}:{minutes % 60:02}" if local.tm_gmtoff else "Z"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + fraction + zone
