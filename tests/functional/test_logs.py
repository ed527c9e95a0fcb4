"""Logs of containers: what `docker logs` shows, the options of each driver, and what may go wrong with a log."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import logs_support
import support

pytestmark = pytest.mark.root

FILES = ["json-file", "local"]
COUNT = "i=0; while [ $i -lt 2000 ]; do echo line $i of the output of this container; i=$((i+1)); done"


def run(engine: support.Engine, script: str, *flags: str, name: str = "logs", check: bool = True) -> str:
    """Runs a script to its end; what the client said on stderr."""
    done = engine.docker("run", "--name", name, *flags, "busybox", "sh", "-c", script, check=check)
    return done.stderr


def logs(engine: support.Engine, *flags: str, name: str = "logs") -> str:
    return engine.docker("logs", *flags, name).stdout


def raw(engine: support.Engine, query: str, name: str = "logs") -> list[tuple[int, bytes]]:
    """(stream, data) of each frame."""
    connection = support.UnixHttp(engine.socket_path)
    connection.request("GET", f"/containers/{name}/logs?{query}")
    data = connection.getresponse().read()
    connection.close()
    frames = []
    while data:
        size = int.from_bytes(data[4:8], "big")
        frames.append((data[0], data[8 : 8 + size]))
        data = data[8 + size :]
    return frames


def files(engine: support.Engine, name: str = "logs") -> Path:
    return engine.data_root / "containers" / str(engine.inspect(name)["Id"])


# --- the same in Docker ---


@pytest.mark.parametrize("driver", FILES)
def test_what_was_said_is_shown(either: support.Engine, driver: str) -> None:
    run(either, "echo one; sleep 0.2; echo err >&2; sleep 0.2; printf two", "--log-driver", driver)
    done = either.docker("logs", "logs")
    assert (done.stdout, done.stderr) == ("one\ntwo", "err\n")
    assert raw(either, "stdout=1&stderr=1") == [(1, b"one\n"), (2, b"err\n"), (1, b"two")]
    assert raw(either, "stderr=1") == [(2, b"err\n")]
    assert raw(either, "stdout=1&stderr=1&tail=2") == [(2, b"err\n"), (1, b"two")]
    assert raw(either, "stdout=1&tail=nonsense") == [(1, b"one\n"), (1, b"two")]
    assert raw(either, "stdout=1&tail=0") == []
    assert either.request("GET", "/containers/logs/logs")[0] == 400
    assert either.request("GET", "/containers/nobody/logs?stdout=1")[0] == 404


@pytest.mark.parametrize("driver", FILES)
def test_since_until_and_timestamps(either: support.Engine, driver: str) -> None:
    run(either, "for n in 1 2 3; do echo $n; sleep 0.2; done", "--log-driver", driver)
    stamps = [line.split() for line in logs(either, "-t").splitlines()]
    assert [text for _, text in stamps] == ["1", "2", "3"]
    assert all(len(stamp) == len("2024-01-02T03:04:05.123456789Z") for stamp, _ in stamps)
    second = stamps[1][0]
    assert logs(either, "--since", second) == "2\n3\n"
    assert logs(either, "--until", second) == "1\n2\n"
    assert logs(either, "--since", second, "--until", second) == "2\n"
    assert logs(either, "--since", "10m") == "1\n2\n3\n" and logs(either, "--until", "10m") == ""
    assert logs(either, "--since", second, "--tail", "1") == "3\n"


def test_long_lines_come_in_parts(either: support.Engine) -> None:
    run(either, "head -c 40000 /dev/zero | tr '\\0' a; echo; printf end")
    frames = raw(either, "stdout=1&timestamps=1")
    assert [len(data) - 31 for _, data in frames] == [16384, 16384, 7233, 3]
    assert len({data[:30] for _, data in frames[:3]}) == 1


def test_labels_variables_and_the_tag_are_details(either: support.Engine) -> None:
    tag = "{{.Name}}/{{.ImageName}}/{{.DaemonName}}/{{.ID}}/{{.Command}}/{{upper .ContainerEntrypoint}}"
    run(
        either, "echo hi", "-l", "b=1 & 2", "-l", "com.x=3", "-l", "c=4", "-e", "V=5", "-e", "W=6",
        "--log-opt", "labels=b", "--log-opt", "labels-regex=^com", "--log-opt", "env=V,NONE", "--log-opt", f"tag={tag}",
    )  # fmt: skip
    short = either.inspect("logs")["Id"][:12]
    line = json.loads(next(files(either).glob("*-json.log")).read_text())
    assert line["attrs"] == {
        "V": "5", "b": "1 & 2", "com.x": "3", "tag": f"logs/busybox/docker/{short}/sh -c echo hi/SH",
    }  # fmt: skip
    shown = f"V=5,b=1+%26+2,com.x=3,tag=logs%2Fbusybox%2Fdocker%2F{short}%2Fsh+-c+echo+hi%2FSH hi\n"
    assert logs(either, "--details") == shown
    assert logs(either, "--details", "-t").endswith("Z " + shown)
    assert logs(either) == "hi\n"


@pytest.mark.parametrize("driver", FILES)
def test_details_of_a_log_without_any(either: support.Engine, driver: str) -> None:
    run(either, "echo hi", "--log-driver", driver)
    assert logs(either, "--details") == " hi\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["foo=1"], "unknown log opt 'foo' for json-file log driver"),
        (["mode=foo"], "logger: logging mode not supported: foo"),
        (["max-buffer-size=1m"], "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
        (["mode=non-blocking", "max-buffer-size=x"], "max-buffer-size"),
    ],
)
def test_wrong_options(either: support.Engine, options: list[str], message: str) -> None:
    config = dict(option.split("=") for option in options)
    body = {"Image": "busybox", "HostConfig": {"LogConfig": {"Type": "json-file", "Config": config}}}
    status, answer = either.request("POST", "/containers/create", body)
    assert (status, message in answer["message"]) == (400, True), answer


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("local", ["tag=1"], "unknown log opt 'tag' for log driver local"),
        ("syslog", ["foo=1"], "unknown log opt 'foo' for syslog log driver"),
        ("syslog", ["syslog-facility=99"], "invalid syslog facility"),
        ("syslog", ["syslog-format=9"], "Invalid syslog format"),
        ("syslog", ["syslog-address=ftp://x"], "syslog-address should be in form proto://address, got ftp://x"),
        ("syslog", ["syslog-address=tcp://127.0.0.1:1"], "failed to initialize logging driver"),
        ("syslog", ["cache-disabled=maybe"], "cache-disabled"),
        ("local", ["max-size=many"], "max-size"),
        ("local", ["compress=true", "max-file=1"], "compression cannot be enabled when max file count is 1"),
        ("json-file", ["max-size=0"], "max-size"),
        ("json-file", ["max-file=0"], "max-file"),
        ("json-file", ["compress=true"], "compress cannot be true when max-file is less than 2"),
        ("json-file", ["tag={{.Nothing}}"], "Nothing"),
        ("json-file", ["env-regex=("], "missing"),
    ],
)
def test_options_that_no_container_can_run_with(
    either: support.Engine, driver: str, options: list[str], message: str
) -> None:
    flags = [word for option in options for word in ("--log-opt", option)]
    done = either.docker("run", "--log-driver", driver, *flags, "busybox", "true", check=False)
    assert done.returncode == 125 and message in done.stderr, done.stderr


def test_the_driver_none_keeps_nothing(either: support.Engine) -> None:
    run(either, "echo hi", "--log-driver", "none")
    status, answer = either.request("GET", "/containers/logs/logs?stdout=1")
    assert status == 501 and "configured logging driver does not support reading" in answer["message"]


@pytest.mark.parametrize("driver", FILES)
def test_following_a_container_to_its_end(either: support.Engine, driver: str) -> None:
    run(either, "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after", "-d", "--log-driver", driver)
    follower = subprocess.Popen(
        ["timeout", "20", "docker", "-H", either.address, "logs", "-f", "logs"], stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout
    assert follower.stdout.readline() == "before\n"
    either.docker("exec", "logs", "touch", "/go")
    assert follower.communicate(timeout=20)[0] == "after\n"
    assert follower.returncode == 0


def test_a_container_that_is_removed_while_it_is_followed(either: support.Engine) -> None:
    run(either, "echo before; sleep 60", "-d")
    follower = subprocess.Popen(
        ["timeout", "20", "docker", "-H", either.address, "logs", "-f", "logs"], stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout and follower.stdout.readline() == "before\n"
    either.docker("rm", "-f", "logs")
    assert follower.communicate(timeout=20)[0] == ""
    assert follower.returncode == 0


@pytest.mark.parametrize("driver", FILES)
def test_a_log_that_was_rotated_and_compressed(either: support.Engine, driver: str) -> None:
    sizes = ["--log-opt", "max-size=20k", "--log-opt", "max-file=3", "--log-opt", "compress=true"]
    run(either, COUNT, "-d", "--log-driver", driver, *sizes)
    either.docker("wait", "logs")
    support.until(lambda: len(list(files(either).rglob("*.gz"))) == 2, what="compressed files")
    for path in files(either).rglob("*.gz"):
        assert b"of the output" in gzip.decompress(path.read_bytes())
    lines = logs(either).splitlines()
    assert lines == [f"line {n} of the output of this container" for n in range(2000 - len(lines), 2000)]
    assert len(lines) > 350
    assert logs(either, "--tail", "300").splitlines() == lines[-300:]


def test_a_second_start_goes_on_in_the_same_log(either: support.Engine) -> None:
    run(either, "echo run")
    either.docker("start", "-a", "logs")
    assert logs(either) == "run\nrun\n"


@pytest.mark.parametrize("driver", FILES)
def test_a_log_mode_that_does_not_block(either: support.Engine, driver: str) -> None:
    options = ["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=4m"]
    run(either, "echo one; echo two >&2; printf three", "--log-driver", driver, *options)
    assert sorted(raw(either, "stdout=1&stderr=1")) == [(1, b"one\n"), (1, b"three"), (2, b"two\n")]


class Server:
    """A syslog server that remembers what it got."""

    def __init__(self, kind: int) -> None:
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.data = b""
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        sock = self.socket
        try:
            if sock.type == socket.SOCK_STREAM:
                sock = sock.accept()[0]
            while part := sock.recv(1 << 16):
                self.data += part
        except OSError:
            return

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def servers() -> Iterator[dict[str, Server]]:
    servers = {"udp": Server(socket.SOCK_DGRAM), "tcp": Server(socket.SOCK_STREAM)}
    yield servers
    for server in servers.values():
        server.close()


SHAPES = {
    "": r"<{p}>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d logs/x\[\d+\]: {text}",
    "rfc3164": r"<{p}>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d {host} logs/x\[\d+\]: {text}",
    "rfc5424": r"<{p}>1 \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) {host} logs/x \d+ logs/x - {text}",
    "rfc5424micro": r"<{p}>1 \d{{4}}-\d\d-\d\dT[\d:]{{8}}\.\d{{6}}(Z|[+-]\d\d:\d\d) {host} logs/x \d+ logs/x - {text}",
}


@pytest.mark.parametrize(
    ("transport", "form"), [("udp", ""), ("udp", "rfc3164"), ("tcp", "rfc5424"), ("udp", "rfc5424micro")]
)
def test_syslog(either: support.Engine, servers: dict[str, Server], transport: str, form: str) -> None:
    remote = servers[transport]
    options = {
        "syslog-address": f"{transport}://127.0.0.1:{remote.port}",
        "syslog-format": form,
        "syslog-facility": "local0",
        "tag": "{{.Name}}/x",
    }
    flags = [word for name, value in options.items() for word in ("--log-opt", f"{name}={value}")]
    run(either, "echo one; echo; sleep 0.2; echo err >&2; sleep 0.2; printf two", "--log-driver", "syslog", *flags)
    support.until(lambda: b"two\n" in remote.data, what="the messages")
    host = re.escape(os.uname().nodename)
    expected = [SHAPES[form].format(p=p, host=host, text=t) for p, t in ((134, "one"), (131, "err"), (134, "two"))]
    lines = remote.data.decode().splitlines()
    assert len(lines) == 3 and all(map(re.fullmatch, expected, lines)), lines
    # What went away is kept here too, or else `docker logs` could show nothing.
    assert logs(either) == "one\n\ntwo"


def test_syslog_without_a_copy_to_read(either: support.Engine, servers: dict[str, Server]) -> None:
    address = f"udp://127.0.0.1:{servers['udp'].port}"
    run(either, "echo one", "--log-driver", "syslog", "--log-opt", f"syslog-address={address}",
        "--log-opt", "cache-disabled=true")  # fmt: skip
    status, answer = either.request("GET", "/containers/logs/logs?stdout=1")
    assert status == 501 and "configured logging driver does not support reading" in answer["message"]


# --- hooper's own ---


def test_what_the_files_are_called(clean: support.Hooper) -> None:
    run(clean, "echo hi", "--log-driver", "local")
    inspected = clean.inspect("logs")
    assert inspected["LogPath"] == "" and inspected["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {}}
    assert (files(clean) / "local-logs" / "container.log").read_bytes().startswith(b"HL")


def test_a_syslog_server_that_hangs_does_not_hold_the_container_up(clean: support.Hooper) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        port = listener.getsockname()[1]
        flood = "i=0; while [ $i -lt 60 ]; do head -c 100000 /dev/zero | tr '\\0' a; echo; i=$((i+1)); done; echo done"
        options = ["--log-opt", f"syslog-address=tcp://127.0.0.1:{port}", "--log-opt", "cache-disabled=true"]
        began = time.monotonic()
        done = clean.docker("run", "--rm", "--log-driver", "syslog", *options, "busybox", "sh", "-c", flood)
        assert done.stdout.endswith("done\n") and time.monotonic() - began < 60


def test_a_full_disk_costs_lines_and_nothing_else(clean: support.Hooper) -> None:
    for driver in FILES:
        name = f"full-{driver}"
        script = (
            "while [ ! -e /go ]; do sleep 0.05; done; "
            + COUNT
            + "; touch /over; while [ ! -e /go2 ]; do sleep 0.05; done; echo last"
        )
        clean.docker("create", "--name", name, "--log-driver", driver, "busybox", "sh", "-c", script)
        directory = files(clean, name) if driver == "json-file" else files(clean, name) / "local-logs"
        directory.mkdir(exist_ok=True)
        support.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory))
        try:
            clean.docker("start", name)
            clean.docker("exec", name, "touch", "/go")
            support.until(lambda n=name: clean.docker("exec", n, "test", "-e", "/over", check=False).returncode == 0)
            noted = clean.exec_root / "containers" / clean.inspect(name)["Id"] / "monitor.log"
            # What the program has said may still be on its way to the log.
            support.until(lambda path=noted: path.exists() and "No space left on device" in path.read_text())
            lines = logs(clean, name=name).splitlines()
            assert 100 < len(lines) < 2000
            numbers = [int(line.split()[1]) for line in lines]
            assert numbers == sorted(set(numbers)) and all(line.endswith(" of this container") for line in lines)
            support.run("mount", "-o", "remount,size=1m", str(directory))
            clean.docker("exec", name, "touch", "/go2")
            assert clean.docker("wait", name).stdout == "0\n"
            assert logs(clean, "--tail", "1", name=name) == "last\n"
        finally:
            support.run("umount", "-l", str(directory))


def test_the_default_driver_and_its_options(short_tmp: Path) -> None:
    config = '[log]\ndriver = "local"\n[log.options]\nmax-size = "5m"\nmax-file = 2\n'
    with support.hooper(short_tmp / "logs-default", config) as own:
        from conftest import import_busybox

        import_busybox(own)
        assert own.request("GET", "/info")[1]["LoggingDriver"] == "local"
        own.docker("run", "--name", "c1", "busybox", "echo", "1")
        own.docker("run", "--name", "c2", "--log-opt", "max-size=1m", "busybox", "echo", "2")
        own.docker("run", "--name", "c3", "--log-driver", "json-file", "busybox", "echo", "3")
        found = {name: own.inspect(name)["HostConfig"]["LogConfig"] for name in ("c1", "c2", "c3")}
        assert found == {
            "c1": {"Type": "local", "Config": {"max-size": "5m", "max-file": "2"}},
            "c2": {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}},
            "c3": {"Type": "json-file", "Config": {}},
        }
        assert [logs(own, name=name) for name in found] == ["1\n", "2\n", "3\n"]


def test_journald(short_tmp: Path) -> None:
    with logs_support.journald() as (path, journal):
        config = f'[log.journald]\nsocket = "{path}"\ndirectory = "{journal}"\n'
        with support.hooper(short_tmp / "logs-journald", config) as own:
            from conftest import import_busybox

            import_busybox(own)
            run(own, "echo one; sleep 0.1; echo err >&2; sleep 0.1; printf two", "--log-driver", "journald",
                "-l", "a.b=c", "--log-opt", "labels=a.b", "--log-opt", "tag={{.Name}}")  # fmt: skip
            assert raw(own, "stdout=1&stderr=1") == [(1, b"one\n"), (2, b"err\n"), (1, b"two")]
            assert logs(own, "--details", "--tail", "1") == "A_B=c two"
            shown = support.run(
                "journalctl", f"--directory={journal}", "--output=json", "CONTAINER_NAME=logs", "PRIORITY=3"
            ).stdout
            entry = json.loads(shown)
            assert (entry["MESSAGE"], entry["CONTAINER_TAG"], entry["IMAGE_NAME"]) == ("err", "logs", "busybox")
            assert entry["CONTAINER_ID_FULL"] == own.inspect("logs")["Id"]


def test_a_wrong_default_ends_the_daemon_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[log.options]\nmax-sise = "5m"\n')
    command = [sys.executable, "-m", "hooper", "daemon", "--config", str(file), "--host", f"unix://{tmp_path}/s"]
    command += ["--data-root", str(tmp_path / "data"), "--exec-root", str(tmp_path / "exec")]
    done = support.run(*command, check=False)
    assert done.returncode != 0 and "unknown log opt 'max-sise' for json-file log driver" in done.stdout + done.stderr


def test_a_daemon_that_is_killed_costs_no_line(short_tmp: Path) -> None:
    with support.hooper(short_tmp / "logs-crash") as own:
        from conftest import import_busybox

        import_busybox(own)
        for driver in FILES:
            script = "i=0; while [ ! -e /go ]; do echo $i; i=$((i+1)); sleep 0.01; done"
            run(own, script, "-d", "--log-driver", driver, "--log-opt", "mode=non-blocking", name=driver)
        own.kill()
        own.start()
        for driver in FILES:
            # The container may end, and this with it, before it has.
            own.docker("exec", driver, "touch", "/go", check=False)
            own.docker("wait", driver)
            lines = logs(own, name=driver).splitlines()
            assert lines == [str(n) for n in range(len(lines))] and lines


def test_hooper_s_own_command_takes_docker_s_flags(clean: support.Hooper) -> None:
    run(clean, "echo one; echo two", "-l", "a=b", "--log-opt", "labels=a")
    assert clean.hooper("logs", "--details", "-n", "1", "logs").stdout == "a=b two\n"
    for since in ("2020-01-01", "2020-01-01T10", "2020-01-01T10:11", "2020-01-01Z", "2020-01-01T10+02:00", "1h", "0.5"):
        assert clean.hooper("logs", "--since", since, "logs").stdout == "one\ntwo\n"
    assert clean.hooper("logs", "--until", "2020-01-01", "logs").stdout == ""
