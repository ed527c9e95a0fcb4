"""What the Engine API says of containers and networks, and does with owners, where the engine has to know."""

from __future__ import annotations

from pathlib import Path

import pytest

import support
from support import Hooper

pytestmark = pytest.mark.root


def test_files_that_are_copied_with_owners_belong_to_the_containers_user(clean: Hooper, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for client in (clean.docker, clean.hooper):
        client("run", "-d", "--name", "c1", "--user", "user:extra", "busybox", "sleep", "60")
        client("cp", "-a", str(tmp_path / "file"), "c1:/tmp/owned")
        client("cp", str(tmp_path / "file"), "c1:/tmp/plain")
        shown = client("exec", "c1", "stat", "-c", "%u:%g", "/tmp/owned", "/tmp/plain").stdout
        assert shown.split() == ["1000:2000", "0:0"]
        clean.clear()


def test_execs_are_shown_while_they_run(clean: Hooper) -> None:
    clean.docker("run", "-d", "--name", "c1", "busybox", "sleep", "60")
    assert clean.inspect("c1")["ExecIDs"] is None
    clean.docker("exec", "-d", "c1", "sleep", "61")
    clean.docker("exec", "c1", "true")
    (exec_id,) = clean.inspect("c1")["ExecIDs"]
    status, content = clean.request("GET", f"/exec/{exec_id}/json")
    assert status == 200 and content["ProcessConfig"]["arguments"] == ["61"] and content["Running"]
    clean.docker("exec", "c1", "kill", str(_sleeper(clean)))
    support.until(lambda: clean.inspect("c1")["ExecIDs"] is None, what="no exec")


def _sleeper(engine: Hooper) -> int:
    for line in engine.docker("exec", "c1", "ps", "-o", "pid,args").stdout.splitlines():
        if line.split()[1:] == ["sleep", "61"]:
            return int(line.split()[0])
    raise AssertionError("it does not run")


def test_the_files_of_etc_are_named(clean: Hooper) -> None:
    clean.docker(
        "run", "-d", "--name", "c1", "--hostname", "h1", "--add-host", "other:10.9.9.9", "busybox", "sleep", "60"
    )
    facts = clean.inspect("c1")
    assert Path(facts["HostnamePath"]).read_text() == "h1\n"
    assert "10.9.9.9\tother\n" in Path(facts["HostsPath"]).read_text()
    for name, key in (("hosts", "HostsPath"), ("hostname", "HostnamePath"), ("resolv.conf", "ResolvConfPath")):
        assert clean.docker("exec", "c1", "cat", f"/etc/{name}").stdout == Path(facts[key]).read_text()


def test_auxiliary_addresses_are_given_to_nobody(clean: Hooper) -> None:
    taken = {"a": "10.213.5.2", "b": "10.213.5.3"}
    words = [word for name, address in taken.items() for word in ("--aux-address", f"{name}={address}")]
    clean.docker("network", "create", "--subnet", "10.213.5.0/29", *words, "n1")
    try:
        (pool,) = clean.request("GET", "/networks/n1")[1]["IPAM"]["Config"]
        assert pool == {"Subnet": "10.213.5.0/29", "Gateway": "10.213.5.1", "AuxiliaryAddresses": taken}
        clean.docker("run", "-d", "--name", "c1", "--network", "n1", "busybox", "sleep", "60")
        assert clean.inspect("c1")["NetworkSettings"]["Networks"]["n1"]["IPAddress"] == "10.213.5.4"
    finally:
        clean.clear()
        clean.docker("network", "rm", "n1")
