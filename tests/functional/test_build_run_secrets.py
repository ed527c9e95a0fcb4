"""What a client lends commands of its build: secrets and agents."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from build_run_support import (
    HIDDEN,
    PATH,
    Client,
    cache,
)

from hooper.api.build_graph import BindMount, LocalSource, SecretMount, SshMount
from hooper.api.errors import InvalidArgument, NotFound

pytestmark = pytest.mark.root


# --- secrets --------------------------------------------------------------------------------------


def test_a_secret_as_a_file(builds):
    ran = builds.ok(
        "stat -c '%a %u %g' /run/secrets/token /t; wc -c < /run/secrets/token; ! sh -c 'echo x > /t';"
        "grep ' /t ' /proc/mounts",
        SecretMount(id="token", target="/run/secrets/token"),
        SecretMount(id="token", target="/t", mode=0o440, uid=1000, gid=2000),
        client=Client({"token": HIDDEN}),
    )
    assert ran.out.splitlines()[:3] == ["400 0 0", "440 1000 2000", str(len(HIDDEN))]
    assert re.search(r"tmpfs ro,nosuid,nodev,noexec", ran.out)
    assert ran.layer == {}


def test_a_secret_is_a_file_to_execute_if_its_mode_says_so(builds):
    secret = SecretMount(id="s", target="/s", mode=0o500)
    assert builds.ok("/s", secret, client=Client({"s": b"#!/bin/sh\necho ran\n"})).out == "ran\n"


def test_a_secret_as_a_variable(builds):
    client = Client({"token": b"value\n"})
    ran = builds.ok('echo "[$TOKEN]"; ls /run 2>&1 || true', SecretMount(id="token", env="TOKEN"), client=client,
                    env=(PATH, "TOKEN=public"))  # fmt: skip
    assert ran.out.startswith("[value\n]\n")
    both = builds.ok("echo $T; cat /t", SecretMount(id="token", env="T", target="/t"), client=client)
    assert both.out == "value\nvalue\n"
    for wrong in (b"a\0b", b"\xff\xfe" + HIDDEN):
        with pytest.raises(InvalidArgument, match="secret b: cannot be the variable T") as raised:
            builds.run("true", SecretMount(id="b", env="T"), client=Client({"b": wrong}))
        assert HIDDEN.decode() not in repr(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__


def test_a_secret_that_the_client_has_not(builds):
    with pytest.raises(NotFound) as raised:
        builds.run("true", SecretMount(id="none", target="/x", required=True))
    assert str(raised.value).startswith("secret none: not found")
    assert "--secret id=none,src=FILE" in raised.value.remedy
    ran = builds.ok(
        "ls /run/secrets/x 2>&1 || true; echo [$E]", SecretMount(id="none", target="/run/secrets/x", env="E")
    )
    assert "No such file" in ran.out
    assert ran.out.endswith("[]\n")


def test_a_secret_has_a_size(builds):
    most = 500 * 1024
    ran = builds.ok("wc -c < /s", SecretMount(id="s", target="/s"), client=Client({"s": b"x" * most}))
    assert ran.out == f"{most}\n"
    with pytest.raises(InvalidArgument, match="secret s: too big"):
        builds.run("true", SecretMount(id="s", target="/s"), client=Client({"s": b"x" * (most + 1)}))


def test_no_secret_is_anywhere_afterwards(builds):
    client = Client({"s": HIDDEN})
    mounts = (SecretMount(id="s", target="/s"), SecretMount(id="s", env="S"), cache("leaks"),
              BindMount(target="/b", source=builds.bench.image(), read_only=False))  # fmt: skip
    found: list[str] = []
    host = builds.bench.core.host

    async def while_it_runs(stream: int, data: bytes) -> None:
        found.extend(containing(host.data_root))

    builds.ok("cp /s /b/copy; echo now", *mounts, client=client, output=while_it_runs)
    # What the command itself copied was on a layer that is gone; the copy shows that the search finds.
    assert [path for path in found if "/upper/" not in path] == []
    assert found
    assert builds.run("exit 3", *mounts, client=client).code == 3
    assert containing(host.data_root) == []
    assert containing(host.exec_root) == []
    log = subprocess.run(["dmesg"], capture_output=True, check=False).stdout
    assert HIDDEN not in log


def containing(root: Path) -> list[str]:
    """The files that have the secret in them."""
    done = subprocess.run(["grep", "-rlaF", HIDDEN.decode(), str(root)], capture_output=True, text=True, check=False)
    return done.stdout.split()


# --- agents ---------------------------------------------------------------------------------------


def test_an_agent(builds, agent):
    ran = builds.ok(
        "echo $SSH_AUTH_SOCK; stat -c '%a %u %g %F' $SSH_AUTH_SOCK /other",
        SshMount(id="default"),
        SshMount(id="more", target="/other", mode=0o660, uid=1000, gid=2000),
        client=Client(agents={"default": agent, "more": agent}),
    )
    assert ran.out.splitlines() == [
        "/run/buildkit/ssh_agent.0", "600 0 0 socket", "660 1000 2000 socket",
    ]  # fmt: skip
    assert ran.layer == {}


def test_bytes_go_both_ways(builds, agent, tmp_path):
    """Python of the host, with its libraries, is the program that speaks."""
    node = LocalSource(context="host")
    script = (
        "import os, socket\n"
        "for number in range(3):\n"
        "    s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK'])\n"
        "    s.sendall(b'x' * 300000); s.shutdown(socket.SHUT_WR)\n"
        "    data = b''\n"
        "    while piece := s.recv(65536): data += piece\n"
        "    print(len(data), data[:6].decode(), data[-4:].decode())\n"
    )
    (tmp_path / "speak.py").write_text(script)
    here = LocalSource(context="script")
    top = [f"/{name}" for name in ("usr", "lib", "lib64", "etc") if os.path.exists(f"/{name}")]
    python = os.path.realpath(sys.executable)
    tops = sorted({*top, f"/{python.split('/')[1]}"})
    sources = {LocalSource(context=path): Path(path) for path in tops}
    mounts = [BindMount(target=source.context, source=source) for source in sources]
    ran = builds.ok(
        f"{python} /tmp/script/speak.py", *mounts, BindMount(target="/tmp/script", source=here), SshMount(),
        directories={**sources, here: tmp_path, node: tmp_path}, client=Client(agents={"default": agent}),
    )  # fmt: skip
    assert ran.out.splitlines() == ["300010 agent: :end"] * 3


def test_an_agent_that_the_client_has_not(builds):
    with pytest.raises(NotFound) as raised:
        builds.run("true", SshMount(id="gone", required=True))
    assert str(raised.value).startswith("SSH agent gone: not found")
    assert "--ssh gone" in raised.value.remedy
    assert builds.ok("echo [$SSH_AUTH_SOCK]", SshMount(id="gone")).out == "[]\n"
