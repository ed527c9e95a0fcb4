"""Containers through the docker CLI and hooper's own, against one daemon."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import support
from hooper_net_bridge.naming import default_bridge, table
from support import Hooper

pytestmark = pytest.mark.root

Client = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(params=["docker", "hooper"])
def client(request: pytest.FixtureRequest, clean: Hooper) -> Client:
    found: Client = getattr(clean, request.param)
    return found


def test_run_shows_output_and_exit_code(client: Client) -> None:
    done = client("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_run_reads_stdin_to_its_end(client: Client) -> None:
    assert client("run", "--rm", "-i", "busybox", "cat", stdin="one\ntwo\n").stdout == "one\ntwo\n"


def test_a_detached_container_is_listed_logged_stopped_and_removed(client: Client) -> None:
    script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    made = client("run", "-d", "--name", "web", "-l", "a=b", "busybox", "sh", "-c", script).stdout.strip()
    assert len(made) == 64
    support.until(lambda: client("logs", "web").stdout == "ready\n", what="the log")
    assert client("ps", "-q", "--no-trunc", "--filter", "label=a=b").stdout.strip() == made
    client("stop", "web")
    assert client("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web").stdout == "exited 3\n"
    assert client("wait", "web").stdout == "3\n"
    assert client("ps", "-q").stdout == ""
    client("rm", "web")
    assert client("ps", "-aq").stdout == ""


def test_created_started_and_attached(client: Client) -> None:
    client("create", "--name", "c1", "-i", "busybox", "cat")
    done = client("start", "-a", "-i", "c1", stdin="hello")
    assert done.stdout == "hello"


def test_kill_gives_128_and_the_signal(client: Client) -> None:
    client("run", "-d", "--name", "k1", "busybox", "sleep", "60")
    client("kill", "-s", "KILL", "k1")
    assert client("inspect", "-f", "{{.State.ExitCode}}", "k1").stdout == "137\n"


def test_exec_runs_in_the_container(client: Client) -> None:
    client("run", "-d", "--name", "e1", "-e", "A=1", "busybox", "sleep", "60")
    assert client(
        "exec", "-e", "B=2", "-w", "/tmp", "e1", "sh", "-c", "echo $A$B; pwd; echo $HOSTNAME"
    ).stdout.split() == [
        "12",
        "/tmp",
        client("inspect", "-f", "{{.Config.Hostname}}", "e1").stdout.strip(),
    ]
    assert client("exec", "-i", "e1", "cat", stdin="in").stdout == "in"
    assert client("exec", "e1", "sh", "-c", "exit 9", check=False).returncode == 9
    assert (
        client("exec", "-u", "user", "e1", "id").stdout.strip()
        == "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)"
    )


def test_a_terminal(clean: Hooper) -> None:
    for program in (["docker"], [sys.executable, "-m", "hooper"]):
        shown = terminal(
            [*program, "-H", clean.address, "run", "--rm", "-it", "busybox", "sh"], "tty; stty size; exit 5\n", 40, 100
        )
        assert "/dev/pts/0" in shown and "40 100" in shown, shown


def terminal(command: list[str], typed: str, rows: int, columns: int) -> str:
    """What a person sees who runs the command in a terminal of that size and types."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    shown, sent, deadline = b"", False, time.monotonic() + 20
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:
                break
            if not data:
                break
            shown += data
        if not sent and b"#" in shown:
            time.sleep(0.3)
            os.write(master, typed.encode())
            sent = True
    process.wait(10)
    os.close(master)
    return shown.decode(errors="replace").replace("\r", "")


def test_published_port_serves(client: Client) -> None:
    port = support.free_port()
    serve = "mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www"
    client("run", "-d", "--name", "h1", "-p", f"{port}:80", "busybox", "sh", "-c", serve)
    assert client("port", "h1").stdout.splitlines()[0] == f"80/tcp -> 0.0.0.0:{port}"
    page: list[bytes] = []

    def fetched() -> bool:
        try:
            page.append(urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).read())
        except OSError:
            return False
        return True

    support.until(fetched, what="the page")
    assert page == [b"hello\n"]


def test_network_modes(client: Client) -> None:
    assert client("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net").stdout.split() == ["lo"]
    host = client("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net").stdout.strip()
    assert host == os.readlink("/proc/self/ns/net")
    client("run", "-d", "--name", "n1", "busybox", "sleep", "60")
    own = client("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "n1").stdout.strip()
    shared = client("run", "--rm", "--network", "container:n1", "busybox", "ip", "-4", "addr", "show", "eth0").stdout
    assert own and f"{own}/" in shared


def test_two_containers_talk_on_a_network_of_their_own(client: Client) -> None:
    client("network", "create", "--label", "x=y", "mine")
    try:
        client("run", "-d", "--name", "s1", "--network", "mine", "busybox", "nc", "-l", "-p", "9", "-e", "echo", "hi")
        address = client("inspect", "-f", "{{.NetworkSettings.Networks.mine.IPAddress}}", "s1").stdout.strip()
        in_use = client("network", "rm", "mine", check=False)
        assert in_use.returncode == 1 and "active endpoints" in in_use.stderr
        assert client("run", "--rm", "--network", "mine", "busybox", "nc", address, "9").stdout == "hi\n"
        client("rm", "-f", "s1")
    finally:
        client("rm", "-f", "s1", check=False)
        client("network", "rm", "mine")
    assert "mine" not in client("network", "ls").stdout


def test_volumes_keep_their_content(client: Client) -> None:
    client("volume", "create", "data")
    try:
        client("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept >/d/f")
        assert client("run", "--rm", "-v", "data:/d:ro", "busybox", "cat", "/d/f").stdout == "kept\n"
        refused = client("run", "--rm", "-v", "data:/d:ro", "busybox", "touch", "/d/g", check=False)
        assert refused.returncode == 1 and "Read-only file system" in refused.stderr
        assert json.loads(client("volume", "inspect", "data").stdout)[0]["Name"] == "data"
    finally:
        client("volume", "rm", "data")
    assert "data" not in client("volume", "ls", "-q").stdout.split()


def test_bind_mounts_show_the_hosts_files(client: Client, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("from the host\n")
    assert client("run", "--rm", "-v", f"{tmp_path}:/m", "busybox", "cat", "/m/f").stdout == "from the host\n"


def test_limits_reach_the_kernel(client: Client) -> None:
    client("run", "-d", "--name", "l1", "-m", "64m", "--pids-limit", "20", "--cpus", "0.5", "busybox", "sleep", "60")
    host = json.loads(client("inspect", "l1").stdout)[0]["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (64 << 20, 20, 500_000_000)
    burst = client("exec", "l1", "sh", "-c", "for i in $(seq 30); do sleep 5 & done; wait", check=False)
    assert "can't fork" in burst.stderr
    client("update", "--pids-limit", "-1", "l1")
    freed = client("exec", "l1", "sh", "-c", "for i in $(seq 30); do sleep 1 & done; wait; echo all")
    assert (freed.stdout, freed.stderr) == ("all\n", "")


def test_isolation_is_dockers(client: Client) -> None:
    status = client("run", "--rm", "busybox", "cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["CapBnd"] == "00000000a80425fb"
    assert fields["Seccomp"] == "2"
    assert client("run", "--rm", "busybox", "cat", "/proc/keys").stdout == ""
    assert client("run", "--rm", "busybox", "touch", "/proc/sysrq-trigger", check=False).returncode == 1
    assert client("run", "--rm", "busybox", "sh", "-c", "echo $$").stdout == "1\n"


def test_pause_and_unpause(client: Client) -> None:
    client("run", "-d", "--name", "p1", "busybox", "sleep", "60")
    client("pause", "p1")
    assert client("inspect", "-f", "{{.State.Status}}", "p1").stdout == "paused\n"
    client("unpause", "p1")
    assert client("inspect", "-f", "{{.State.Status}}", "p1").stdout == "running\n"


def test_runc_is_chosen_by_runtime(client: Client) -> None:
    done = client("run", "--rm", "--runtime", "runc", "busybox", "sh", "-c", "echo through runc; exit 4", check=False)
    assert (done.returncode, done.stdout) == (4, "through runc\n")
    client("run", "-d", "--runtime", "runc", "--name", "r1", "busybox", "sleep", "60")
    assert client("exec", "r1", "echo", "in runc").stdout == "in runc\n"
    assert client("inspect", "-f", "{{.HostConfig.Runtime}}", "r1").stdout == "runc\n"


def test_events_tell_the_life_of_a_container(clean: Hooper) -> None:
    before = str(time.time())
    clean.docker("run", "--rm", "--name", "ev", "busybox", "true")
    shown = clean.docker("events", "--since", before, "--until", str(time.time() + 0.1), "--filter", "container=ev",
                         "--format", "{{.Action}}").stdout.split()  # fmt: skip
    assert [word for word in shown if word in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_commit_export_and_import(client: Client, tmp_path: Path) -> None:
    client("run", "--name", "m1", "busybox", "sh", "-c", "echo new >/new")
    client("commit", "-m", "a file", "m1", "changed:1")
    assert client("run", "--rm", "changed:1", "cat", "/new").stdout == "new\n"
    client("export", "-o", str(tmp_path / "m.tar"), "m1")
    client("import", str(tmp_path / "m.tar"), "flat:1")
    assert client("run", "--rm", "flat:1", "/bin/cat", "/new").stdout == "new\n"
    client("rm", "m1")
    client("rmi", "changed:1", "flat:1")


def test_copy_both_ways(client: Client, tmp_path: Path) -> None:
    client("run", "-d", "--name", "cp", "busybox", "sleep", "60")
    (tmp_path / "in").write_text("copied\n")
    client("cp", str(tmp_path / "in"), "cp:/tmp/there")
    assert client("exec", "cp", "cat", "/tmp/there").stdout == "copied\n"
    client("cp", "cp:/tmp/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "copied\n"


def test_nothing_is_left_of_removed_containers(clean: Hooper) -> None:
    clean.docker("run", "--rm", "busybox", "true")
    support.until(lambda: traces(clean, time.time())["links"] == 0, what="the links of earlier containers gone")
    begun = time.time()
    before = traces(clean, begun)
    for _ in range(3):
        clean.docker("run", "--rm", "-p", "80", "-v", "/anonymous", "busybox", "true")
    clean.docker("run", "--rm", "busybox", "nosuchprogram", check=False)
    support.until(lambda: traces(clean, begun) == before, what=f"{traces(clean, begun)} like {before}")


def created_since(engine: Hooper, since: float) -> list[str]:
    """The ids of the containers that were created."""
    filters = json.dumps({"type": ["container"], "event": ["create"]})
    path = f"/events?since={since:.6f}&until={time.time():.6f}&filters={urllib.parse.quote(filters)}"
    connection = support.UnixHttp(engine.socket_path)
    connection.request("GET", path)
    lines = connection.getresponse().read().splitlines()
    connection.close()
    return [json.loads(line)["id"] for line in lines]


def traces(engine: Hooper, since: float) -> dict[str, int]:
    """How much of everything that a container is made of is there; other engines may run beside this one."""
    mounts = Path("/proc/self/mounts").read_text()
    links = os.listdir(f"/sys/class/net/{default_bridge(engine.exec_root)}/brif")
    hierarchies = [path for path in Path("/sys/fs/cgroup").glob("*") if path.is_dir()]
    cgroups = [
        path
        for container in created_since(engine, since)
        for path in (Path("/sys/fs/cgroup/hooper", container), *(h / "hooper" / container for h in hierarchies))
        if path.is_dir()
    ]
    return {
        "mounts": mounts.count(str(engine.data_root)) + mounts.count(str(engine.exec_root)),
        "links": len(links),
        "cgroups": len(cgroups),
        "directories": len(list((engine.data_root / "containers").iterdir())),
        "run directories": len(list((engine.exec_root / "containers").iterdir())),
        "volumes": len(engine.request("GET", "/volumes")[1]["Volumes"] or []),
        "nft": support.run("nft", "list", "table", "inet", table(engine.exec_root), check=False).stdout.count("\n"),
    }
