"""The options of syslog, as users type them (https://docs.docker.com/engine/logging/drivers/syslog/)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.log_options import refuse_unknown, wrong

KNOWN = (
    "env", "env-regex", "labels", "labels-regex", "syslog-address", "syslog-facility", "syslog-format",
    "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify", "tag",
)  # fmt: skip
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
"""By number (RFC 5424, 6.2.1, with Linux's names)."""
DEFAULT_FACILITY = "daemon"
DEFAULT_PORT = 514
TLS = "tcp+tls"
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")


class Options(msgspec.Struct, frozen=True):
    """What the options of one container mean."""

    transport: str
    """"" (this host's), unix, unixgram, udp, tcp or tcp+tls."""
    path: str
    host: str
    port: int
    facility: int
    format: str
    ca: str
    certificate: str
    key: str
    verify: bool


def parse(options: Mapping[str, str]) -> Options:
    """InvalidArgument, naming the option, if one is unknown or its value is wrong."""
    refuse_unknown(options, KNOWN, "unknown log opt '{}' for syslog log driver")
    transport, path, host, port = _address(options.get("syslog-address", ""))
    form = options.get("syslog-format", "")
    if form not in FORMATS:
        raise InvalidArgument("Invalid syslog format", f"syslog-format={form}", f"There are: {', '.join(FORMATS[1:])}.")
    return Options(
        transport=transport,
        path=path,
        host=host,
        port=port,
        facility=_facility(options.get("syslog-facility", "")),
        format=form,
        ca=_file(options, "syslog-tls-ca-cert"),
        certificate=_file(options, "syslog-tls-cert"),
        key=_file(options, "syslog-tls-key"),
        # As Docker has it: that the option is there is what counts.
        verify="syslog-tls-skip-verify" not in options,
    )


def _file(options: Mapping[str, str], name: str) -> str:
    path = options.get(name, "")
    if path and not os.path.isfile(path):
        raise wrong(name, path, "a file on the host of the daemon")
    return path


def _facility(text: str) -> int:
    text = text or DEFAULT_FACILITY
    if text in FACILITIES:
        return FACILITIES.index(text)
    if text.isascii() and text.isdigit() and int(text) < len(FACILITIES):
        return int(text)
    names = ", ".join(filter(None, FACILITIES))
    raise InvalidArgument("invalid syslog facility", f"syslog-facility={text}", f"There are {names}, and 0 to 23.")


def _address(text: str) -> tuple[str, str, str, int]:
    """Transport, path, host, port."""
    if not text:
        return "", "", "", 0
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("unix", "unixgram", "udp", "tcp", TLS):
        raise InvalidArgument(
            f"syslog-address should be in form proto://address, got {text}",
            remedy="The protocols are udp, tcp, tcp+tls, unix and unixgram.",
        )
    if scheme in ("unix", "unixgram"):
        if not os.path.exists(rest):
            raise InvalidArgument(
                f"invalid log opt syslog-address={text}",
                f"there is nothing at {rest}",
                "Start the syslog server first.",
            )
        return scheme, rest, "", 0
    try:
        parsed = urlsplit(text)
        host, port = parsed.hostname or "", parsed.port or DEFAULT_PORT
    except ValueError as error:
        raise InvalidArgument(f"invalid log opt syslog-address={text}", str(error), "It is udp://HOST:PORT.") from error
    if not host:
        raise InvalidArgument(f"invalid log opt syslog-address={text}", "it names no host", "It is udp://HOST:PORT.")
    return scheme, "", host, port
