"""Every bundled log driver against the conformance suite."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import logs_support
from hooper.api.errors import SkipDriver
from hooper.api.logs import LogDriver
from hooper.testing.logs import LogConformance
from hooper_log_journald.driver import JournaldDriver
from hooper_log_journald.options import JournaldConfig
from hooper_log_jsonfile.driver import JsonFileDriver
from hooper_log_jsonfile.none import NoneDriver
from hooper_log_local.driver import LocalDriver
from hooper_log_syslog.driver import SyslogDriver


class TestJsonFile(LogConformance):
    def make_driver(self) -> LogDriver:
        return JsonFileDriver("json-file", None)


class TestJsonFileThatRotates(TestJsonFile):
    def options(self) -> dict[str, str]:
        return {"max-size": "10m", "max-file": "3", "compress": "true"}


class TestLocal(LogConformance):
    def make_driver(self) -> LogDriver:
        return LocalDriver("local", None)


class TestNone(LogConformance):
    def make_driver(self) -> LogDriver:
        return NoneDriver("none", None)

    def test_unknown_options_are_refused_by_name(self, driver: LogDriver) -> None:
        driver.check({"whatever": "it takes any, as in Docker"})


class TestSyslog(LogConformance):
    @pytest.fixture(autouse=True)
    def server(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
            thread = threading.Thread(target=self._swallow, args=[listener], daemon=True)
            thread.start()
            yield
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _swallow(self, listener: socket.socket) -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection:
                while connection.recv(1 << 16):
                    continue

    def make_driver(self) -> LogDriver:
        return SyslogDriver("syslog", None)

    def options(self) -> dict[str, str]:
        return {"syslog-address": f"tcp://127.0.0.1:{self._port}"}


@pytest.fixture(scope="module")
def journald() -> Iterator[JournaldConfig]:
    with logs_support.journald() as (path, directory):
        yield JournaldConfig(socket=path, directory=directory)


@pytest.mark.root
class TestJournald(LogConformance):
    @pytest.fixture(autouse=True)
    def config(self, journald: JournaldConfig) -> None:
        self._config = journald

    def make_driver(self) -> LogDriver:
        return JournaldDriver("journald", self._config)


def test_a_host_without_journald(tmp_path: Path) -> None:
    with pytest.raises(SkipDriver, match="journald is not enabled on this host"):
        JournaldDriver("journald", JournaldConfig(socket=str(tmp_path / "socket"))).probe()
