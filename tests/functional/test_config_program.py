"""What `docker run` says of the program itself: what it sees is what was asked for, on both engines."""

from __future__ import annotations

import json
from pathlib import Path

import docker
import pytest

from support import Engine

pytestmark = pytest.mark.root


def inside(engine: Engine, *flags: str, script: str) -> list[str]:
    """Lines that a script in a container with these flags prints."""
    return engine.docker("run", "--rm", *flags, "busybox", "sh", "-c", script).stdout.splitlines()


def status(engine: Engine, *flags: str, user: str = "") -> dict[str, str]:
    words = ["--user", user] if user else []
    lines = inside(engine, *flags, *words, script="cat /proc/self/status")
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_environment_comes_from_flags_and_files_over_the_images(either: Engine, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nFROM_FILE=a b\nONE=file\n\nEMPTY=\n")
    flags = ["--env-file", str(file), "-e", "ONE=flag", "-e", "WITH=a=b", "-e", "PATH=/bin:/x", "-h", "there"]
    lines = inside(either, *flags, script="env")
    for line in ("FROM_FILE=a b", "ONE=flag", "WITH=a=b", "EMPTY=", "PATH=/bin:/x", "HOSTNAME=there", "HOME=/root"):
        assert line in lines
    assert "TERM=xterm" not in lines
    either.docker("create", "--name", "c1", "-e", "ONE=1", "busybox")
    assert either.inspect("c1")["Config"]["Env"] == ["ONE=1", "PATH=/bin"]


def test_labels_come_from_flags_and_files(either: Engine, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("a=file\nb=file\n")
    either.docker("create", "--name", "c1", "--label-file", str(file), "-l", "a=flag", "-l", "c", "busybox")
    assert either.inspect("c1")["Config"]["Labels"] == {"a": "flag", "b": "file", "c": ""}


@pytest.mark.parametrize(
    ("user", "ids", "groups", "home"),
    [
        ("user", "1000:1000", "1000 2000", "/home"),
        ("user:extra", "1000:2000", "2000", "/home"),
        ("1000:0", "1000:0", "0", "/home"),
        ("4321:4322", "4321:4322", "4322", "/"),
        ("0:extra", "0:2000", "2000", "/root"),
    ],
)
def test_users(either: Engine, user: str, ids: str, groups: str, home: str) -> None:
    script = "echo $(id -u):$(id -g); grep ^Groups /proc/self/status; echo $HOME"
    shown = inside(either, "--user", user, script=script)
    assert shown[0] == ids and shown[2] == home
    assert shown[1].split()[1:] == groups.split()


def test_groups_are_added(either: Engine) -> None:
    shown = status(either, "--group-add", "extra", "--group-add", "77", user="1000:1000")
    assert sorted(shown["Groups"].split(), key=int) == ["77", "1000", "2000"]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--user", "nobody"], "unable to find user nobody: no matching entries in passwd file"),
        (["--user", "user:nogroup"], "unable to find group nogroup: no matching entries in group file"),
        (["--group-add", "nogroup"], "unable to find group nogroup: no matching entries in group file"),
        (["--user", "4294967296"], "uids and gids must be in range 0-2147483647"),
    ],
)
def test_users_that_are_not_there(either: Engine, flags: list[str], text: str) -> None:
    done = either.docker("run", "--rm", *flags, "busybox", "true", check=False)
    assert done.returncode in (125, 126) and text.lower() in done.stderr.lower()


def test_a_working_directory_is_made(either: Engine) -> None:
    assert inside(either, "-w", "/made/for/it", script="pwd; ls -d /made/for") == ["/made/for/it", "/made/for"]


def test_a_working_directory_is_made_in_a_read_only_root(either: Engine) -> None:
    assert inside(either, "--read-only", "-w", "/made/for/it", script="pwd") == ["/made/for/it"]
    done = either.docker("run", "--rm", "--read-only", "-w", "/etc/passwd", "busybox", "pwd", check=False)
    assert done.returncode in (125, 126, 127) and "not a directory" in done.stderr


def test_host_and_domain_name(either: Engine) -> None:
    script = "hostname; cat /proc/sys/kernel/domainname; cat /etc/hostname; tail -n1 /etc/hosts; echo $HOSTNAME"
    shown = inside(either, "-h", "alpha", "--domainname", "example.org", script=script)
    assert shown[:3] == ["alpha", "example.org", "alpha"] and shown[4] == "alpha"
    assert shown[3].split()[1:] == ["alpha.example.org", "alpha"]
    either.docker("create", "--name", "c1", "busybox")
    facts = either.inspect("c1")
    assert facts["Config"]["Hostname"] == facts["Id"][:12]


def test_entrypoints(either: Engine) -> None:
    assert either.docker("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b").stdout == "a b\n"
    either.docker("build", "-t", "entry", "-", stdin='FROM busybox\nENTRYPOINT ["echo", "entry"]\nCMD ["cmd"]\n')
    try:
        assert either.docker("run", "--rm", "entry").stdout == "entry cmd\n"
        assert either.docker("run", "--rm", "entry", "other").stdout == "entry other\n"
        assert either.docker("run", "--rm", "--entrypoint", "", "entry", "echo", "alone").stdout == "alone\n"
        done = either.docker("run", "--rm", "--entrypoint", "", "entry", check=False)
        assert done.returncode == 125 and "no command specified" in done.stderr.lower()
        assert either.docker("run", "--rm", "--entrypoint", "ls", "entry", "-d", "/bin").stdout == "/bin\n"
    finally:
        either.docker("rmi", "-f", "entry")


DEFAULT = 0x00000000A80425FB


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (["--cap-drop", "ALL"], 0),
        (["--cap-drop", "all", "--cap-add", "chown", "--cap-add", "CAP_KILL"], 1 << 0 | 1 << 5),
        (["--cap-add", "SYS_TIME"], DEFAULT | 1 << 25),
        (["--cap-drop", "CAP_MKNOD", "--cap-drop", "net_raw"], DEFAULT & ~(1 << 27 | 1 << 13)),
    ],
)
def test_capabilities(either: Engine, flags: list[str], bits: int) -> None:
    shown = status(either, *flags)
    for name in ("CapBnd", "CapEff", "CapPrm"):
        assert int(shown[name], 16) == bits
    assert int(shown["CapAmb"], 16) == 0


def test_all_capabilities(clean: Engine) -> None:
    """Docker fails where it has not all of them itself."""
    own = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapBnd:")
    )
    assert int(status(clean, "--cap-add", "ALL")["CapEff"], 16) == own
    without = status(clean, "--cap-add", "ALL", "--cap-drop", "SYS_ADMIN")
    assert int(without["CapEff"], 16) == own & ~(1 << 21)
    assert int(status(clean, "--privileged")["CapEff"], 16) == own
    assert int(status(clean, "--privileged", user="user")["CapEff"], 16) == 0


def test_security_options(either: Engine, tmp_path: Path) -> None:
    shown = status(either, "--security-opt", "no-new-privileges")
    assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("1", "2")
    assert status(either, "--security-opt", "no-new-privileges=false")["NoNewPrivs"] == "0"
    assert status(either, "--security-opt", "seccomp=unconfined")["Seccomp"] == "0"
    assert status(either, "--security-opt", "label=disable", "--security-opt", "apparmor=unconfined")["Seccomp"] == "2"
    profile = tmp_path / "profile.json"
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    script = "mkdir /x 2>&1; grep ^Seccomp: /proc/self/status"
    refused, mode = inside(either, "--security-opt", f"seccomp={profile}", script=script)
    assert "Operation not permitted" in refused and mode.split()[1] == "2"


def test_system_paths(either: Engine) -> None:
    script = "mount | grep -q ' /proc/sys .*(ro' || echo writable; wc -c </proc/keys"
    assert inside(either, script=script) == ["0"]
    shown = inside(either, "--security-opt", "systempaths=unconfined", "--security-opt", "seccomp=unconfined",
                   script=script)  # fmt: skip
    assert shown[0] == "writable" and int(shown[1]) > 0
    either.docker("create", "--name", "c1", "--security-opt", "systempaths=unconfined", "busybox")
    host = either.inspect("c1")["HostConfig"]
    assert host["MaskedPaths"] == [] == host["ReadonlyPaths"] and not host["SecurityOpt"]


def test_privileged(clean: Engine) -> None:
    script = "mount | grep -c ' /proc/sys .*(ro'; test -c /dev/kmsg && echo kmsg; mount | grep -c 'cgroup.*(ro'"
    shown = inside(clean, "--privileged", script=f"{script}; grep ^Seccomp: /proc/self/status")
    assert shown[:3] == ["0", "kmsg", "0"] and shown[3].split()[1] == "0"


def test_resource_limits_of_the_process(either: Engine) -> None:
    flags = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "cpu=30"]
    rows = {line[:25].strip(): line[25:].split()[:2] for line in inside(either, *flags, script="cat /proc/self/limits")}
    assert rows["Max open files"] == ["100", "200"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max cpu time"] == ["30", "30"]


def test_oom_score(either: Engine) -> None:
    assert inside(either, "--oom-score-adj", "500", script="cat /proc/self/oom_score_adj") == ["500"]


PORTS, PING = "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ([], "0 0-2147483647"),
        (["--network", "none"], "0 0-2147483647"),
        (["--sysctl", f"{PORTS}=80", "--sysctl", f"{PING}=1 2"], "80 1-2"),
    ],
    ids=["bridge", "none", "given"],
)
def test_users_may_take_any_port_and_ping(either: Engine, flags: list[str], found: str) -> None:
    script = f"echo $(sysctl -n {PORTS}) $(sysctl -n {PING} | tr '\\t' '-')"
    assert either.docker("run", "--rm", "-u", "1000", *flags, "busybox", "sh", "-c", script).stdout == f"{found}\n"


def test_sysctls(either: Engine) -> None:
    flags = ["--sysctl", "kernel.shmmax=1234567", "--sysctl", "net.ipv4.ip_forward=0",
             "--sysctl", "net.core.somaxconn=321", "--sysctl", "fs.mqueue.msg_max=11"]  # fmt: skip
    files = "kernel/shmmax net/ipv4/ip_forward net/core/somaxconn fs/mqueue/msg_max"
    assert inside(either, *flags, script=f"cd /proc/sys; cat {files}") == ["1234567", "0", "321", "11"]
    either.docker("create", "--name", "c1", "--sysctl", "net.core.somaxconn=321", "busybox")
    assert either.inspect("c1")["HostConfig"]["Sysctls"] == {"net.core.somaxconn": "321"}


def test_a_read_only_root(either: Engine) -> None:
    script = "touch /x 2>&1; touch /etc/hosts 2>&1; touch /dev/shm/x /tmp/x && echo ok"
    shown = inside(either, "--read-only", "--tmpfs", "/tmp", script=script)
    assert "Read-only file system" in shown[0] and "Read-only file system" in shown[1] and shown[2] == "ok"


def test_an_init_reaps_and_forwards(either: Engine) -> None:
    lines = inside(either, "--init", script="readlink /proc/1/exe; cat /proc/1/comm; echo $$")
    assert lines[-1] != "1"
    either.docker(
        "run", "-d", "--init", "--name", "c1", "busybox", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"
    )
    assert either.inspect("c1")["HostConfig"]["Init"] is True
    either.docker("stop", "-t", "5", "c1")
    assert either.inspect("c1")["State"]["ExitCode"] == 5


def test_stop_signal_and_timeout(either: Engine) -> None:
    script = "trap 'exit 7' USR1; while :; do sleep 0.1; done"
    flags = ["--stop-signal", "SIGUSR1", "--stop-timeout", "9"]
    either.docker("run", "-d", *flags, "--name", "c1", "busybox", "sh", "-c", script)
    config = either.inspect("c1")["Config"]
    assert (config["StopSignal"], config["StopTimeout"]) == ("SIGUSR1", 9)
    either.docker("stop", "c1")
    assert either.inspect("c1")["State"]["ExitCode"] == 7


def test_platform_and_pull_policy(either: Engine) -> None:
    assert either.docker("run", "--rm", "--pull", "never", "--platform", "linux/amd64", "busybox", "echo", "x").stdout
    done = either.docker("run", "--rm", "--pull", "never", "--platform", "linux/s390x", "busybox", check=False)
    assert done.returncode == 125 and "was found but" in done.stderr and "linux/s390x" in done.stderr
    done = either.docker("run", "--rm", "--pull", "never", "none:1", check=False)
    assert done.returncode == 125 and "No such image: none:1" in done.stderr


def test_docker_py_asks_for_the_same(either: Engine) -> None:
    client = docker.DockerClient(either.address, version="1.41")
    try:
        output = client.containers.run(
            "busybox", ["sh", "-c", "id -u; cat /proc/sys/kernel/shmmax; ulimit -n; hostname; env | grep ^A="],
            remove=True, user="user", sysctls={"kernel.shmmax": "7654321"}, hostname="py", environment={"A": "b"},
            ulimits=[docker.types.Ulimit(name="nofile", soft=64, hard=64)], cap_drop=["ALL"], read_only=True,
            labels=["x"], security_opt=["no-new-privileges:true"], init=True, oom_score_adj=10,
        )  # fmt: skip
    finally:
        client.close()
    assert output.decode().split() == ["1000", "7654321", "64", "py", "A=b"]


def test_annotations_are_kept(clean: Engine) -> None:
    clean.docker("create", "--name", "c1", "--annotation", "a.b=c", "busybox")
    assert clean.inspect("c1")["HostConfig"]["Annotations"] == {"a.b": "c"}


def test_a_program_has_its_own_descriptors_alone(either: Engine) -> None:
    """Whatever the process that makes it has open, also one that has made others before."""
    script = "set -- /proc/self/fd/*; echo $#"  # the shell's own three, and the one that it lists them with
    for _ in range(3):
        assert inside(either, script=script) == inside(either, "--init", script=script) == ["4"]
    either.docker("run", "-d", "--name", "c1", "busybox", "sleep", "60")
    for _ in range(3):
        assert either.docker("exec", "c1", "sh", "-c", script).stdout.split() == ["4"]
