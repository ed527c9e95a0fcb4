"""The log driver syslog: its options, and a server that is not always there."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from hooper.api.errors import InvalidArgument, Unavailable
from hooper.api.log_writing import Patience
from hooper.api.logs import LogTarget, LogWriter
from hooper_log_syslog import connection
from hooper_log_syslog.driver import SyslogDriver
from hooper_log_syslog.messages import counted, header, priority
from hooper_log_syslog.options import parse

DRIVER = SyslogDriver("syslog", None)


def target(**options: str) -> LogTarget:
    return LogTarget(
        container_id="0123456789abcdef", container_name="n", image="i", directory=Path("/nonexistent"),
        options={name.replace("_", "-"): value for name, value in options.items()},
    )  # fmt: skip


def accept(listener: socket.socket) -> socket.socket:
    listener.settimeout(10)
    sock = listener.accept()[0]
    sock.settimeout(10)
    return sock


def test_addresses() -> None:
    found = parse({"syslog-address": "tcp://[::1]:99", "syslog-facility": "local7"})
    assert (found.transport, found.host, found.port, found.facility) == ("tcp", "::1", 99, 23)
    assert parse({"syslog-address": "tcp+tls://logs.example"}).port == 514
    assert parse({}).transport == "" and parse({}).facility == 3 and parse({"syslog-facility": "0"}).facility == 0


@pytest.mark.parametrize(
    "options",
    [
        {"syslog-address": "logs.example"},
        {"syslog-address": "http://logs.example"},
        {"syslog-address": "udp://"},
        {"syslog-address": "udp://host:port"},
        {"syslog-address": "udp://host:99999"},
        {"syslog-address": "unix:///nonexistent"},
        {"syslog-facility": "24"},
        {"syslog-facility": "-1"},
        {"syslog-facility": "locale"},
        {"syslog-format": "rfc1"},
        {"syslog-tls-cert": "/nonexistent"},
        {"max-size": "1m"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        DRIVER.check(options)
    assert next(iter(options)) in str(raised.value) and raised.value.remedy


def test_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-5:30")
    time.tzset()
    try:
        at = 1_700_000_000_123_456_789
        assert header("", "h", "t", 7)(30, at) == b"<30>Nov 15 03:43:20 t[7]: "
        assert header("rfc3164", "h", "t", 7)(30, at) == b"<30>Nov 15 03:43:20 h t[7]: "
        assert header("rfc5424", "h", "t", 7)(30, at) == b"<30>1 2023-11-15T03:43:20+05:30 h t 7 t - "
        assert header("rfc5424micro", "h", "t", 7)(30, at) == b"<30>1 2023-11-15T03:43:20.123456+05:30 h t 7 t - "
    finally:
        monkeypatch.undo()
        time.tzset()
    assert priority(16, "stderr") == 131 and counted(b"abc\n") == b"4 abc\n"


def test_a_server_that_was_started_anew_is_used_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        writer = DRIVER.writer(target(syslog_address=f"tcp://127.0.0.1:{port}", tag="t"))
        with accept(first) as sock:
            writer.write("stdout", b"one\n", 0)
            assert sock.recv(1000).endswith(b": one\n")
    with socket.create_server(("127.0.0.1", port)) as second:
        # What went into the broken connection is lost; what shows that it is broken is sent again.
        for number in range(20):
            writer.write("stdout", b"%d\n" % number, 0)
            time.sleep(0.01)
        with accept(second) as sock:
            writer.write("stderr", b"last\n", 0)
            writer.close()
            data = b""
            while part := sock.recv(1 << 16):
                data += part
    assert data.endswith(b": last\n") and b": 19\n" in data


def test_a_server_that_is_away_is_not_asked_for_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        writer = DRIVER.writer(target(syslog_address=f"tcp://127.0.0.1:{listener.getsockname()[1]}"))
        accept(listener).close()

    def refuse(*arguments: object) -> socket.socket:
        tried.append(arguments)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(connection, "_connected", refuse)
    failures = 0
    for _ in range(50):
        try:
            writer.write("stdout", b"line\n", 0)
        except OSError:
            failures += 1
    assert failures >= 48 and len(tried) == 1


def test_a_server_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        writer = DRIVER.writer(target(syslog_address=f"tcp://127.0.0.1:{listener.getsockname()[1]}"))
        with accept(listener), pytest.raises(OSError, match="cannot send to the syslog server"):
            _fill(writer)
        with pytest.raises(OSError, match="away"):
            writer.write("stdout", b"x\n", 0)


def _fill(writer: LogWriter) -> None:
    for _ in range(1000):
        writer.write("stdout", b"x" * 16000 + b"\n", 0)


def test_patience_grows_and_ends() -> None:
    now = [0.0]
    patience = Patience(lambda: now[0])
    waits = []
    for _ in range(7):
        patience.failed()
        began = now[0]
        while not patience.may_try:
            now[0] += 0.5
        waits.append(now[0] - began)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    patience.worked()
    assert patience.may_try


def test_no_server_is_an_error_with_a_remedy() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="syslog-address"):
            DRIVER.writer(target(syslog_address=f"tcp://127.0.0.1:{unused.getsockname()[1]}"))


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_unix_socket(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(path)
        if kind == socket.SOCK_STREAM:
            server.listen()
        scheme = "unix" if kind == socket.SOCK_STREAM else "unixgram"
        writer = DRIVER.writer(target(syslog_address=f"{scheme}://{path}"))
        writer.write("stdout", b"one\n\ntwo", 0)
        writer.close()
        sock = accept(server) if kind == socket.SOCK_STREAM else server
        data = _two(sock)
    assert [line.rpartition(b": ")[2] for line in data.splitlines()] == [b"one", b"two"]
    assert b" 0123456789ab[" in data


def _two(sock: socket.socket) -> bytes:
    data = b""
    while data.count(b"\n") < 2:
        data += sock.recv(1000)
    return data


def test_tls_with_messages_framed_by_their_length(tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    received = bytearray()

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            try:
                with context.wrap_socket(accept(listener), server_side=True) as sock:
                    while part := sock.recv(1000):
                        received.extend(part)
            except (ssl.SSLError, OSError):
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        address = f"tcp+tls://localhost:{listener.getsockname()[1]}"
        with pytest.raises(Unavailable, match="certificate"):
            DRIVER.writer(target(syslog_address=address))
        writer = DRIVER.writer(target(syslog_address=address, syslog_tls_ca_cert=certificate, syslog_format="rfc5424"))
        writer.write("stdout", b"one\n", 0)
        writer.close()
        thread.join(10)
    size, _, message = bytes(received).partition(b" ")
    assert int(size) == len(message) and message.endswith(b" - one\n")
