"""Many containers at once: all of them are there, answer, and go; what the daemon holds goes with them."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from lookin_support import create, start

import support
from support import Hooper

pytestmark = pytest.mark.root

MANY = 60
AT_ONCE = 8
PAGE = "mkdir /w && hostname >/w/index.html && exec httpd -f -p 80 -h /w"


def each(work: Callable[[int], object]) -> Sequence[object]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, range(MANY)))


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        return str(answer.read().decode().strip())


def descriptors(daemon: Hooper) -> int:
    assert daemon.process
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def test_many_containers_live_and_go(clean: Hooper) -> None:
    before = descriptors(clean)
    clean.docker("network", "create", "crowd")
    try:
        _many(clean)
        clean.clear()
        assert clean.request("GET", "/containers/json?all=1")[1] == []
        support.until(lambda: descriptors(clean) <= before + 2, what="descriptors given back")
    finally:
        clean.clear()
        clean.docker("network", "rm", "crowd")


def _many(daemon: Hooper) -> None:
    def begin(number: int) -> None:
        bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
        host = {"PortBindings": bindings, "NetworkMode": "crowd"}
        config = {"Hostname": f"host{number}", "ExposedPorts": {"80/tcp": {}}, "HostConfig": host}
        create(daemon, f"crowd{number}", ["sh", "-c", PAGE], **config)
        start(daemon, f"crowd{number}")

    each(begin)
    listed = daemon.request("GET", "/containers/json")[1]
    assert len(listed) == MANY
    addresses = {item["NetworkSettings"]["Networks"]["crowd"]["IPAddress"] for item in listed}
    assert len(addresses) == MANY
    ports = {item["Names"][0]: item["Ports"][0]["PublicPort"] for item in listed}
    assert len(set(ports.values())) == MANY

    def look(number: int) -> None:
        name = f"crowd{number}"
        support.until(lambda: _answers(ports[f"/{name}"], f"host{number}"), what=f"the page of {name}")
        body = {"Cmd": ["hostname"], "AttachStdout": True}
        identifier = daemon.request("POST", f"/containers/{name}/exec", body)[1]["Id"]
        assert f"host{number}\n" in daemon.request("POST", f"/exec/{identifier}/start", {})[1]
        assert daemon.request("GET", f"/containers/{name}/stats?stream=0&one-shot=1")[1]["pids_stats"]["current"] >= 1

    each(look)
    far = f"wget -qO- http://crowd{MANY - 1}/"
    assert daemon.docker("exec", "crowd0", "sh", "-c", far).stdout == f"host{MANY - 1}\n"
    chosen = json.dumps({"name": ["crowd1"], "status": ["running"]}).replace(" ", "")
    assert len(daemon.request("GET", f"/containers/json?filters={chosen}")[1]) == 1 + 10
    assert daemon.request("GET", "/info")[1]["ContainersRunning"] == MANY


def _answers(port: int, expected: str) -> bool:
    try:
        return page(port) == expected
    except OSError:
        return False
