"""Commands of builds in their containers: mounts, secrets, agents, networks, limits, and what is left of them."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from build_run_support import CGROUP, PATH, Bench, Client, Ran, cgroups, opened

import support
from hooper.api.build_graph import BindMount, CacheMount, ImageSource, LocalSource, SecretMount, SshMount, TmpfsMount
from hooper.api.builder import BuildRequest
from hooper.api.engine import ContainerCreate
from hooper.api.errors import Conflict, Forbidden, HooperError, Internal, InvalidArgument, NotFound
from hooper.api.model import ContainerConfig, HostConfig, Ulimit
from hooper.api.network import Network

pytestmark = pytest.mark.root


class Builds:
    """The bench, from outside of its event loop."""

    def __init__(self, portal: Any, bench: Bench) -> None:
        self.portal, self.bench = portal, bench

    def run(self, command: str, *mounts: Any, **more: Any) -> Ran:
        return self.call(lambda: self.bench.run(command, *mounts, **more))

    def ok(self, command: str, *mounts: Any, **more: Any) -> Ran:
        ran = self.run(command, *mounts, **more)
        assert ran.code == 0, ran
        return ran

    def call(self, function: Any) -> Any:
        return self.portal.call(function)

    def caches(self) -> dict[str, Any]:
        return {entry.id: entry for entry in self.call(self.bench.runner.caches.entries)}


@pytest.fixture(scope="module")
def builds(short_tmp: Path) -> Iterator[Builds]:
    directory = short_tmp / "runs"
    with opened(directory) as (portal, bench):
        yield Builds(portal, bench)
    support.forget_network(directory / "exec")


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No command leaves anything on the host, however it ended."""
    if "builds" not in request.fixturenames:
        yield
        return
    bench = request.getfixturevalue("builds").bench
    before = bench.left()
    yield
    # The kernel takes its time with a network namespace.
    support.until(lambda: bench.left() == before, what=f"{bench.left()} like {before}")


@pytest.fixture
def tree(tmp_path: Path) -> tuple[LocalSource, dict[LocalSource, Path], Path]:
    """A directory as a context: its node, where it is, and its path."""
    root = tmp_path / "context"
    (root / "d").mkdir(parents=True)
    (root / "a").write_text("A\n")
    (root / "d" / "b").write_text("B\n")
    (root / "out").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../../../../../../etc")
    node = LocalSource(context="")
    return node, {node: root}, root


# --- commands -------------------------------------------------------------------------------------


def test_a_command(builds):
    ran = builds.run(
        "echo out; echo err >&2; hostname; pwd; id -un; echo $X-$P-$Q; echo new > /tmp/f; exit 7",
        env=(PATH, "X=x", "P=own"),
        hidden_env=("P=hidden", "Q=hidden"),
        cwd="/home",
        user="user",
    )
    assert ran.code == 7
    assert ran.out.split() == ["out", "buildkitsandbox", "/home", "user", "x-own-hidden"]
    assert ran.err == "err\n"
    assert "tmp/f" in ran.layer


def test_the_engines_own_files_are_no_part_of_the_layer(builds):
    ran = builds.ok("cat /etc/hosts /etc/resolv.conf /etc/hostname", hostname="named", request=BuildRequest(
        extra_hosts=["db:10.1.2.3"]))  # fmt: skip
    assert "10.1.2.3\tdb" in ran.out
    assert "named" in ran.out
    assert ran.layer == {}


@pytest.mark.parametrize("network", ["bridge", "host", "none"])
def test_a_command_finds_its_own_name(builds, network):
    request = BuildRequest(network_mode=network)
    found = builds.ok("grep -w $(hostname) /etc/hosts", request=request).out.split()
    assert found[1:] == ["buildkitsandbox"] and (network == "bridge" or found[0] == "127.0.0.1")


def test_a_program_that_is_not_there(builds):
    with pytest.raises(HooperError, match="executable file not found"):
        builds.call(lambda: _step(builds.bench, "nonsense"))


async def _step(bench, program):
    from hooper.api.build_graph import Run, Scratch

    root = await bench.core.storage.prepare("build-x", await bench.runner.init_layer(bench.busybox))

    async def output(stream, data):
        raise AssertionError

    try:
        run = Run(base=Scratch(), args=(program,), env=(PATH,))
        await bench.runner.run_step(
            root, run, request=BuildRequest(), session=Client(), sources={}, output=output
        )  # fmt: skip
    finally:
        await bench.core.storage.remove("build-x")


# --- bind -----------------------------------------------------------------------------------------


def test_bind_of_a_directory_and_a_file(builds, tree):
    node, places, root = tree
    ran = builds.ok(
        "cat /src/a /src/d/b /one; ls /sub; ! touch /src/new; ! touch /sub/new; ! sh -c 'echo x > /one'",
        BindMount(target="/src", source=node),
        BindMount(target="/sub", source=node, path="d"),
        BindMount(target="/one", source=node, path="/d/b"),
        directories=places,
    )
    assert ran.out == "A\nB\nB\nb\n"
    assert ran.layer == {}
    assert sorted(os.listdir(root)) == ["a", "d", "out", "up"]


def test_bind_of_an_image(builds):
    ran = builds.ok(
        "ls -l /i/sh; cat /p", BindMount(target="/i", source=builds.bench.image(), path="bin"),
        BindMount(target="/p", source=builds.bench.image(), path="etc/passwd"),
    )  # fmt: skip
    assert "busybox" in ran.out
    assert "user:x:1000" in ran.out
    assert ran.layer == {}


def test_no_link_leads_out_of_a_source(builds, tree):
    node, places, root = tree
    for path in ("out", "up", "up/passwd", "../../../etc/passwd"):
        with pytest.raises(InvalidArgument, match="cannot mount"):
            builds.run("cat /x", BindMount(target="/x", source=node, path=path), directories=places)
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("inner\n")
    ran = builds.ok("cat /x", BindMount(target="/x", source=node, path="out"), directories=places)
    assert ran.out == "inner\n"


def test_bind_of_what_is_not_there(builds, tree):
    node, places, _ = tree
    with pytest.raises(InvalidArgument, match='cannot mount "d/none": no such file or directory'):
        builds.run("true", BindMount(target="/x", source=node, path="d/none"), directories=places)
    for target in ("/", "//", "x/y", "/.."):
        with pytest.raises(InvalidArgument, match="invalid mount target"):
            builds.run("true", BindMount(target=target, source=node), directories=places)


def test_what_is_written_to_a_bind_is_discarded(builds, tree):
    node, places, root = tree
    root.chmod(0o751)
    ran = builds.ok(
        "echo changed > /src/a; rm /src/d/b; touch /src/new; cat /src/a; stat -c %a /src; echo more >> /one; cat /one;"
        "echo x > /img/etc/x; ls /img/etc; touch /img/bin/sh",
        BindMount(target="/src", source=node, read_only=False),
        BindMount(target="/one", source=node, path="d/b", read_only=False),
        BindMount(target="/img", source=builds.bench.image(), read_only=False),
        directories=places,
    )
    assert ran.out.split() == ["changed", "751", "B", "more", "group", "passwd", "x"]
    assert ran.layer == {}
    assert (root / "a").read_text() == "A\n"
    assert (root / "d" / "b").read_text() == "B\n"
    assert not (root / "new").exists()
    again = builds.ok("ls /img/etc", BindMount(target="/img", source=builds.bench.image(), read_only=False))
    assert again.out.split() == ["group", "passwd"]


def test_a_bind_of_an_image_of_several_layers_can_be_written(builds):
    async def scene() -> Ran:
        storage = builds.bench.core.storage
        await storage.prepare("build-above", builds.bench.busybox)
        await storage.commit("above", "build-above")
        try:
            mount = BindMount(
                target="/i", source=ImageSource(reference="", image_id="", chain="above"), read_only=False
            )
            return await builds.bench.run("rm /i/etc/group; ls /i/etc", mount)
        finally:
            await storage.remove("above")

    assert builds.call(scene).out == "passwd\n"


def test_where_there_is_no_overlayfs_a_bind_is_copied(builds, tree, monkeypatch):
    from hooper.engine.build_mounts import RunMounts

    def refused(*words):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(RunMounts, "_overlaid", refused)
    node, places, root = tree
    ran = builds.ok(
        "echo x > /src/a; cat /src/a /src/d/b; echo y > /one; cat /one; echo z > /img/etc/group; cat /img/etc/group",
        BindMount(target="/src", source=node, read_only=False),
        BindMount(target="/one", source=node, path="d/b", read_only=False),
        BindMount(target="/img", source=builds.bench.image(), read_only=False),
        directories=places,
    )
    assert ran.out == "x\nB\ny\nz\n"
    assert (root / "a").read_text() == "A\n"
    assert ran.layer == {}


# --- mount points ---------------------------------------------------------------------------------


def test_mount_points_leave_no_trace(builds, tree):
    node, places, _ = tree
    ran = builds.ok(
        "echo hi > /kept/f; mkdir -p /deep/with; touch /deep/with/content; chown 1000 /owned; true",
        BindMount(target="/kept/x/y", source=node),
        BindMount(target="/deep/er/file", source=node, path="a"),
        BindMount(target="/owned/z", source=node),
        BindMount(target="/var/lib/q", source=node),
        TmpfsMount(target="/gone/t"),
        directories=places,
    )
    assert sorted(ran.layer) == ["deep", "deep/with", "deep/with/content", "kept", "kept/f", "owned"]
    assert ran.layer["owned"].uid == 1000


def test_a_mount_point_behind_links(builds, tree):
    node, places, _ = tree
    buffer = io.BytesIO(support.busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for name, target in (("var/run", "/run/deep"), ("inner", "../../../home"), ("loop", "loop")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    chain = builds.call(lambda: builds.bench.imported("links", buffer.getvalue()))
    ran = builds.ok(
        "cat /run/deep/x/a /home/y/b; ls -l /var/run /inner | wc -l",
        BindMount(target="/var/run/x", source=node),
        BindMount(target="/inner/y/b", source=node, path="d/b"),
        BindMount(target="/var/../run/z", source=node),
        directories=places,
        chain=chain,
    )
    assert ran.out.startswith("A\nB\n")
    assert ran.layer == {}
    with pytest.raises(HooperError):
        builds.run("true", BindMount(target="/loop/x", source=node), directories=places, chain=chain)


def test_a_file_is_in_the_way(builds, tree):
    node, places, _ = tree
    with pytest.raises(InvalidArgument, match="cannot mount at /etc/passwd/x"):
        builds.run("true", BindMount(target="/etc/passwd/x", source=node), directories=places)
    with pytest.raises(HooperError, match="not a directory"):
        builds.run("true", BindMount(target="/etc/passwd", source=node), directories=places)


def test_mounts_in_mounts_and_twice_at_one_place(builds, tree):
    node, places, _ = tree
    ran = builds.ok(
        "cat /t/in/b; ls /t; cat /twice",
        BindMount(target="/t/in", source=node, path="d"),
        TmpfsMount(target="/t"),
        BindMount(target="/twice", source=node, path="a"),
        BindMount(target="/twice", source=node, path="d/b"),
        directories=places,
    )
    assert ran.out == "B\nin\nB\n"
    assert ran.layer == {}


@pytest.mark.parametrize(
    "drivers",
    [
        {"storage": "vfs"},
        pytest.param(
            {"isolation": "runc"}, marks=pytest.mark.skipif(not shutil.which("runc"), reason="there is no runc")
        ),
    ],
    ids=["vfs", "runc"],
)
def test_on_other_drivers(short_tmp, tree, drivers):
    node, places, root = tree
    directory = short_tmp / "other"
    with opened(directory, **drivers) as (portal, bench):
        mounts = (
            BindMount(target="/deep/src", source=node, read_only=False),
            BindMount(target="/img", source=bench.image(), read_only=False),
            BindMount(target="/one", source=node, path="d/b"),
            CacheMount(target="/root/c", id="c"),
            TmpfsMount(target="/t"),
            SecretMount(id="s", target="/run/secrets/s", env="S"),
        )
        before = bench.left()
        run = partial(
            bench.run,
            "cat /one /run/secrets/s; echo $S; rm /deep/src/a; rm /img/etc/group;"
            "cp /one /root/c; cp /one /t; ls /root/c",
            *mounts,
            directories=places,
            client=Client({"s": b"hidden\n"}),
        )
        for _ in range(2):
            ran = portal.call(run)
            assert (ran.code, ran.out, ran.layer) == (0, "B\nhidden\nhidden\none\n", {}), ran
        support.until(lambda: bench.left() == before, what=f"{bench.left()} like {before}")
        assert (root / "a").exists()
    support.forget_network(directory / "exec")
    shutil.rmtree(directory)


# --- tmpfs ----------------------------------------------------------------------------------------


def test_tmpfs(builds):
    ran = builds.ok(
        "grep ' /t ' /proc/mounts; printf '#!/bin/sh\\necho ran\\n' > /t/x; chmod +x /t/x; /t/x;"
        "! dd if=/dev/zero of=/t/big bs=64k count=32 2>/dev/null; stat -c %a /t",
        TmpfsMount(target="/t", size=1 << 20),
    )
    assert "size=1024k" in ran.out
    assert ran.out.endswith("ran\n1777\n")
    assert ran.layer == {}


# --- caches ---------------------------------------------------------------------------------------


def cache(id: str, **more: Any) -> CacheMount:
    return CacheMount(target=more.pop("target", "/c"), id=id, **more)


def test_a_cache_outlives_its_command(builds):
    ran = builds.ok("test -z \"$(ls /c)\"; stat -c '%a %u' /c; echo kept > /c/f", cache("first"))
    assert ran.out == "755 0\n"
    assert ran.layer == {}
    assert builds.ok("cat /other/f", cache("first", target="/other")).out == "kept\n"
    assert builds.ok("ls /c", cache("second")).out == ""
    assert builds.run("echo x > /c/f", cache("first", read_only=True)).code != 0


def test_a_cache_has_owner_and_mode(builds):
    one = cache("owned", uid=1000, gid=2000, mode=0o2770)
    assert builds.ok("stat -c '%a %u %g' /c; echo x > /c/x", one, user="user:extra").out == "2770 1000 2000\n"
    assert builds.ok("cat /c/x", one).out == "x\n"
    # As in BuildKit, one that begins otherwise is another one.
    assert builds.ok("ls /c", cache("owned")).out == ""


def test_a_cache_begins_with_files(builds, tree):
    node, places, root = tree
    for number in range(2):
        ran = builds.ok(
            f"cat /c/b; ls /c; touch /c/{number}", cache("filled", source=node, path="d"), directories=places
        )
    assert ran.out == "B\n0\nb\n"
    assert os.listdir(root / "d") == ["b"]
    image = builds.bench.image()
    assert "passwd" in builds.ok("ls /c", cache("filled", source=image, path="etc")).out.split()
    with pytest.raises(InvalidArgument, match='cannot mount "a": it is no directory'):
        builds.run("true", cache("file", source=node, path="a"), directories=places)
    with pytest.raises(InvalidArgument, match='cannot mount "none": no such file'):
        builds.run("true", cache("file", source=node, path="none"), directories=places)
    other = {node: "another digest"}
    ran = builds.ok("ls /c", cache("filled", source=node, path="d"), directories=places, contents=other)
    assert ran.out == "b\n"


def test_caches_are_listed_and_removed(builds):
    builds.ok("dd if=/dev/zero of=/c/f bs=1k count=300 2>/dev/null", cache("listed"))
    entry = next(each for each in builds.caches().values() if each.name == "listed")
    assert entry.size >= 300 << 10
    assert time.time() - 60 < entry.created <= entry.last_used < time.time() + 1
    assert (entry.in_use, entry.sharing) == (False, "")
    builds.call(lambda: builds.bench.runner.caches.remove(entry.id))
    assert entry.id not in builds.caches()
    assert builds.ok("ls /c", cache("listed")).out == ""
    for wrong in (entry.id + "x", "../../x", ""):
        with pytest.raises(NotFound, match="there is none of that id"):
            builds.call(lambda wrong=wrong: builds.bench.runner.caches.remove(wrong))


SLOW = "echo began; until test -e /sync/{go}; do sleep 0.05; done; echo ended"


def together(builds: Builds, tmp_path: Path, sharing: str, second: str = "") -> tuple[list[str], set[str]]:
    """Two commands with one cache: the first goes on until the second has ended or waits. What was said, in order,
    and the directories of the cache."""
    node = LocalSource(context="")
    said: list[str] = []
    name = f"{sharing}-{second}"

    async def both() -> None:
        def hear(number: int) -> Any:
            async def heard(stream: int, data: bytes) -> None:
                said.extend(f"{number} {line}" for line in data.decode().splitlines())
                if number == 2:
                    (tmp_path / "go").touch()

            return heard

        sync = BindMount(target="/sync", source=node)
        places = {node: tmp_path}
        mount = cache(name, sharing=sharing)
        async with anyio.create_task_group() as tasks:
            run = builds.bench.run
            work = f"touch /c/one; {SLOW.format(go='go')}"
            tasks.start_soon(lambda: run(work, mount, sync, directories=places, output=hear(1)))
            with anyio.fail_after(20):
                while not said:
                    await anyio.sleep(0.01)
            entry = next(e for e in await builds.bench.runner.caches.entries() if e.name == name)
            assert (entry.in_use, entry.sharing) == (True, sharing)
            with pytest.raises(Conflict, match="a build uses it"):
                await builds.bench.runner.caches.remove(entry.id)
            await run("echo files: $(ls /c)", cache(name, sharing=second or sharing), output=hear(2))

    builds.call(both)
    return said, {entry.id for entry in builds.caches().values() if entry.name == name}


def test_a_shared_cache(builds, tmp_path):
    said, directories = together(builds, tmp_path, "shared")
    assert said == ["1 began", "2 files: one", "1 ended"]
    assert len(directories) == 1


def test_a_private_cache(builds, tmp_path):
    said, directories = together(builds, tmp_path, "private")
    assert said == ["1 began", "2 files:", "1 ended"]
    assert len(directories) == 2
    # The next one takes the oldest that is free.
    assert builds.ok("ls /c", cache("private-", sharing="private")).out == "one\n"


def test_a_locked_cache(builds, tmp_path):
    said, directories = together(builds, tmp_path, "locked")
    assert said[0] == "1 began"
    assert said[1].startswith('2 waiting for the cache "locked-"')
    assert said[2:] == ["1 ended", "2 files: one"]
    assert len(directories) == 1


def test_who_shares_does_not_use_what_another_has_for_itself(builds, tmp_path):
    said, directories = together(builds, tmp_path, "private", "shared")
    assert said == ["1 began", "2 files:", "1 ended"]
    assert len(directories) == 2


def test_two_commands_never_wait_for_each_other(builds):
    one, two = cache("x", sharing="locked", target="/x"), cache("y", sharing="locked", target="/y")

    async def many() -> None:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for mounts in ((one, two), (two, one)) * 3:
                    tasks.start_soon(builds.bench.run, "sleep 0.02", *mounts)

    builds.call(many)


def test_one_command_has_a_locked_cache_twice(builds):
    ran = builds.ok("touch /x/f; ls /y", cache("t", sharing="locked", target="/x"),
                    cache("t", sharing="locked", target="/y"))  # fmt: skip
    assert ran.out == "f\n"


# --- secrets --------------------------------------------------------------------------------------

HIDDEN = b"s3cr3t-of-the-test-" + os.urandom(8).hex().encode()


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


@pytest.fixture
def agent(short_tmp: Path) -> Iterator[Path]:
    """A socket that says back what it hears, after "agent:"."""
    path = short_tmp / f"agent-{os.urandom(3).hex()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def echo(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"agent:")
            while data := connection.recv(1 << 16):
                connection.sendall(data)
            connection.sendall(b":end")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


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


# --- networks -------------------------------------------------------------------------------------


def test_networks(builds):
    show = "ls /sys/class/net"
    assert builds.ok(show, network="none").out.split() == ["lo"]
    for network in ("", "default", "bridge"):
        assert builds.ok(show, network=network).out.split() == ["eth0", "lo"]
    assert builds.ok(show, request=BuildRequest(network_mode="none")).out.split() == ["lo"]
    assert builds.ok(show, network="none", request=BuildRequest(network_mode="bridge")).out.split() == ["lo"]
    for request in (BuildRequest(network_mode="host"), BuildRequest(allow=["network.host"])):
        ran = builds.ok("readlink /proc/self/ns/net", network="host", request=request)
        assert ran.out.strip() == os.readlink("/proc/self/ns/net")


def test_what_needs_to_be_allowed(builds):
    with pytest.raises(Forbidden, match=r"network\.host is not allowed"):
        builds.run("true", network="host")
    with pytest.raises(Forbidden, match=r"security\.insecure is not allowed") as raised:
        builds.run("true", insecure=True)
    assert "--allow security.insecure" in raised.value.remedy
    show = "grep CapEff /proc/self/status"
    plain = builds.ok(show).out
    everything = builds.ok(f"{show}; mount -t tmpfs none /tmp", insecure=True, request=BuildRequest(
        allow=["security.insecure"])).out  # fmt: skip
    assert int(everything.split()[1], 16) > int(plain.split()[1], 16)


def test_an_unknown_network(builds):
    with pytest.raises(NotFound) as raised:
        builds.run("true", network="nosuch")
    assert "There are: bridge, host, none" in raised.value.remedy


def test_names_of_a_users_network(builds):
    async def scene() -> Ran:
        engine, networks = builds.bench.engine, builds.bench.core.networks
        network, _ = await networks.create(Network(id="", name="mine", driver="", created=0.0))
        request = ContainerCreate(
            config=ContainerConfig(image="busybox", cmd=["sleep", "60"]), host_config=HostConfig(network_mode="mine"),
            name="peer",
        )  # fmt: skip
        created = await engine.containers.create(request)
        try:
            await engine.containers.start(created.id)
            by_name = await builds.bench.run("ping -c 1 -W 5 peer", network="mine")
            by_id = await builds.bench.run("nslookup peer; ls /sys/class/net", network=network.id[:12])
            shared = await builds.bench.run("hostname -i || true; ls /sys/class/net", network="container:peer")
            assert (by_name.code, by_id.code, shared.code) == (0, 0, 0), (by_name, by_id, shared)
            return by_name
        finally:
            await engine.containers.remove(created.id, force=True)
            await networks.remove("mine")

    assert "1 packets received" in builds.call(scene).out


def test_no_event_tells_of_it(builds):
    async def scene() -> list[str]:
        since = time.time_ns()
        await builds.bench.run("true")
        with pytest.raises(HooperError):
            await builds.bench.run("true", BindMount(target="/etc/passwd", source=builds.bench.image()))
        found = []
        async with builds.bench.engine.events.subscribe(since) as events:
            with anyio.move_on_after(0.1):
                async for event in events:
                    found.append(f"{event.type} {event.action}")
        return found

    assert builds.call(scene) == []


# --- limits ---------------------------------------------------------------------------------------


def test_limits(builds):
    request = BuildRequest(
        memory=64 << 20, memory_swap=64 << 20, cpu_shares=300, cpu_period=50000, cpu_quota=20000, cpuset_cpus="0",
        shm_size=2 << 20, ulimits=[Ulimit(name="nofile", soft=77, hard=88)], cgroup_parent=f"/{CGROUP}/below",
        security_opt=["no-new-privileges"],
    )  # fmt: skip
    seen: list[Path] = []

    async def heard(stream: int, data: bytes) -> None:
        seen.extend(cgroups(f"{CGROUP}/below/*"))

    ran = builds.ok(
        "ulimit -n; grep ' /dev/shm ' /proc/mounts; grep NoNewPrivs /proc/self/status;"
        "grep Cpus_allowed_list /proc/self/status;"
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true",
        request=request,
        output=heard,
    )
    assert seen
    for path in cgroups(f"{CGROUP}/below"):
        path.rmdir()
    lines = ran.out.splitlines()
    assert lines[0] == "77"
    assert "size=2048k" in lines[1]
    assert lines[2].split() == ["NoNewPrivs:", "1"]
    assert lines[3].split() == ["Cpus_allowed_list:", "0"]
    assert lines[4] == str(64 << 20)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"memory": 1000}, "Minimum memory limit"),
        ({"memory": 64 << 20, "memory_swap": 1 << 20}, "Minimum memoryswap"),
        ({"cpuset_cpus": "x"}, "cpuset"),
        ({"extra_hosts": ["x"]}, "bad format for add-host"),
        ({"security_opt": ["nonsense=1"]}, "invalid --security-opt"),
        ({"ulimits": [Ulimit(name="none", soft=1, hard=1)]}, "invalid ulimit type"),
    ],
)
def test_wrong_limits(builds, wrong, says):
    with pytest.raises(InvalidArgument, match=says):
        builds.run("true", request=BuildRequest(**wrong))


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, "running"])
def test_cancelling_leaves_nothing(builds, moment, agent):
    mounts = (cache("cancelled"), BindMount(target="/b", source=builds.bench.image(), read_only=False),
              SecretMount(id="s", target="/s"), SshMount())  # fmt: skip
    client = Client({"s": HIDDEN}, {"default": agent})

    async def scene() -> None:
        with anyio.CancelScope() as scope:

            async def heard(stream: int, data: bytes) -> None:
                scope.cancel()

            if not isinstance(moment, str):
                scope.deadline = anyio.current_time() + moment
            await builds.bench.run("echo running; sleep 100", *mounts, client=client, output=heard)
        assert scope.cancelled_caught

    started = time.monotonic()
    builds.call(scene)
    assert time.monotonic() - started < 30
    assert not any(entry.in_use for entry in builds.caches().values())
    assert processes("sleep 100") == []


def processes(command: str) -> list[str]:
    """The pids of those with this command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().split(b"\0")[:-1] == command.encode().split():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_client_that_is_gone_ends_the_command(builds):
    async def broken(stream: int, data: bytes) -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        builds.run("echo x; sleep 100", output=broken)


def parent(pid: str) -> int:
    return int(re.search(r"PPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_a_monitor_that_is_killed(builds):
    async def killing(stream: int, data: bytes) -> None:
        (sleeper,) = processes("sleep 998")
        os.kill(parent(str(parent(sleeper))), signal.SIGKILL)

    with pytest.raises(Internal, match="its monitor was killed"):
        builds.run("sleep 998 & sleep 0.3; echo go; wait", output=killing)
    support.until(lambda: not processes("sleep 998"), what="the command ends")


@pytest.mark.parametrize("both", [False, True])
def test_after_a_crash_the_next_daemon_cleans_up(short_tmp, both):
    """Of the daemon alone, or of the command's monitor too."""
    directory = short_tmp / f"crashed-{both}"
    support_file = Path(__file__).with_name("build_run_support.py")
    command = "echo content > /cache/f; echo x > /b/x; sleep 997 & sleep 0.2; echo go; wait"
    paths = [str(support_file.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, str(support_file), str(directory), command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        (identifier,) = os.listdir(directory / "exec" / "containers")
        (sleeper,) = processes("sleep 997")
        monitor = parent(str(parent(sleeper)))
        assert cgroups(f"hooper/{identifier}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    if both:
        os.kill(monitor, signal.SIGKILL)
    half = directory / "data" / "builds" / "caches" / ".new-x"
    half.mkdir()
    with opened(directory) as (portal, bench):
        support.until(lambda: not processes("sleep 997"), what="the command ends")
        support.until(lambda: not cgroups(f"hooper/{identifier}"), what="its cgroups go")
        support.until(lambda: not any(bench.left().values()), what=f"nothing of {bench.left()}")
        assert not half.exists()
        assert portal.call(lambda: bench.run("cat /c/f", cache("kept"))).out == "content\n"
        walked = portal.call(_snapshots, bench)
        assert [key for key in walked if key.startswith("build-")] == []
    support.forget_network(directory / "exec")


async def _snapshots(bench):
    return [each.key async for each in bench.core.storage.walk()]


def test_modes_of_what_is_made(builds):
    """Nothing of other users' is readable on the host."""
    builds.ok("true", cache("modes"))
    caches = builds.bench.core.host.data_root / "builds" / "caches"
    assert stat.S_IMODE(caches.stat().st_mode) == 0o700
