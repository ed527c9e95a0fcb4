"""Build, ship, run, on real input: a Debian that hooper did not make, a real registry, real clients, a real dockerd."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root

DOCKERFILE = """\
FROM {base} AS files
RUN apt-get -qq update && apt-get install -y --no-install-recommends file && rm -rf /var/lib/apt/lists/*
RUN ["/bin/bash", "-c", "echo exec form > /exec"]
ARG WORD=default
ENV WORD=$WORD PATH=/opt/bin:$PATH
WORKDIR /srv/app
COPY --chown=1000:1000 src/ ./
ADD archive.tar.gz /unpacked/
USER 1000:1000
RUN id -u > /tmp/uid

FROM {base}
LABEL kind="test of ${{x:-all}}"
COPY --from=files /srv/app /app
COPY --from=files /exec /tmp/uid /results/
COPY --from=files /unpacked /unpacked
EXPOSE 80
VOLUME /data
WORKDIR /app
ENTRYPOINT ["/bin/cat"]
CMD ["hello.txt"]
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("context")
    (place / "src").mkdir()
    (place / "src/hello.txt").write_text("hello from the context\n")
    (place / "src/ignored.log").write_text("no\n")
    (place / ".dockerignore").write_text("**/*.log\n")
    with tarfile.open(place / "archive.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("inside/file")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    return place


def written(context: Path, debian_registry: str) -> str:
    (context / "Dockerfile").write_text(DOCKERFILE.format(base=f"{debian_registry}/debian:12"))
    return str(context)


def test_pull_build_run_push_and_pull_back(clean: Hooper, debian_registry: str, context: Path) -> None:
    for client, name in ((clean.docker, "one"), (clean.hooper, "two")):
        reference = f"{debian_registry}/made/{name}:1"
        client("pull", f"{debian_registry}/debian:12")
        version = client("run", "--rm", f"{debian_registry}/debian:12", "cat", "/etc/debian_version").stdout
        assert version.startswith("12")
        client("build", "-t", reference, "--build-arg", "WORD=given", written(context, debian_registry))
        shown = client("run", "--rm", reference).stdout
        assert shown == "hello from the context\n"
        listing = client(
            "run", "--rm", "--entrypoint", "/bin/sh", reference, "-c", "ls /app /unpacked/inside; cat /results/*"
        )
        assert listing.stdout.split() == ["/app:", "hello.txt", "/unpacked/inside:", "file", "exec", "form", "1000"]
        identity = client("inspect", "-f", "{{.Id}}", reference).stdout
        client("push", reference)
        client("rmi", reference)
        assert reference not in client("images", "--format", "{{.Repository}}:{{.Tag}}").stdout
        client("pull", reference)
        assert client("inspect", "-f", "{{.Id}}", reference).stdout == identity
        assert client("run", "--rm", reference).stdout == shown


def test_a_second_build_is_cached_and_gives_the_same_image(clean: Hooper, debian_registry: str, context: Path) -> None:
    clean.docker("pull", f"{debian_registry}/debian:12")
    first = clean.docker("build", "-q", written(context, debian_registry)).stdout
    again = clean.docker("build", written(context, debian_registry)).stdout
    assert again.count("Using cache") >= 10
    assert clean.docker("build", "-q", written(context, debian_registry)).stdout == first


def test_history_save_load_and_tag(clean: Hooper, tmp_path: Path) -> None:
    for client in (clean.docker, clean.hooper):
        client("tag", "busybox", "copy:1")
        before = client("inspect", "-f", "{{.Id}}", "copy:1").stdout
        assert "Imported from -" in client("history", "--no-trunc", "copy:1").stdout
        client("save", "-o", str(tmp_path / "copy.tar"), "copy:1")
        client("rmi", "copy:1")
        assert "copy:1" in client("load", "-i", str(tmp_path / "copy.tar")).stdout
        assert client("inspect", "-f", "{{.Id}}", "copy:1").stdout == before
        client("rmi", "copy:1")


def image_facts(engine: Engine, reference: str) -> tuple[dict[str, object], list[str]]:
    status, content = engine.request("GET", f"/images/{reference}/json")
    assert status == 200, content
    config = {key: content["Config"].get(key) or None for key in (
        "Env", "Cmd", "Entrypoint", "WorkingDir", "User", "Labels", "ExposedPorts", "Volumes", "OnBuild",
    )}  # fmt: skip
    return config, content["RootFS"]["Layers"]


def tree(engine: Engine, reference: str) -> dict[str, tuple[object, ...]]:
    """Every path of an image's file system, with what it is; without what an engine adds to its containers."""
    container = engine.docker("create", reference, "/x").stdout.strip()
    exported = subprocess.run(
        ["docker", "-H", engine.address, "export", container], capture_output=True, check=True, timeout=120
    ).stdout
    engine.docker("rm", container)
    found = {}
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        for entry in archive:
            name = entry.name.rstrip("/")
            if name.startswith(("dev", "proc", "sys", ".dockerenv", "etc/mtab")) or name in (
                "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc", "",
            ):  # fmt: skip
                continue
            file = archive.extractfile(entry) if entry.isfile() else None
            content = file.read() if file else b""
            found[name] = (
                entry.type if not entry.islnk() else b"0",
                entry.mode & 0o7777,  # dockerd writes the kind of file there too
                entry.uid,
                entry.gid,
                entry.linkname,
                content if not entry.islnk() else None,
            )
    return found


@pytest.mark.dockerd
def test_interchange_with_dockerd(clean: Hooper, peer: Engine, debian_registry: str, context: Path) -> None:
    """What one builds and pushes, the other pulls and runs: the same config, layers and files."""
    for maker, taker, name in ((clean, peer, "by-hooper"), (peer, clean, "by-dockerd")):
        reference = f"{debian_registry}/interchange/{name}:1"
        maker.docker("pull", f"{debian_registry}/debian:12")
        maker.docker("build", "-t", reference, "--network", "host", written(context, debian_registry))
        maker.docker("push", reference)
        taker.docker("pull", reference)
        assert image_facts(taker, reference) == image_facts(maker, reference)
        ours, theirs = tree(taker, reference), tree(maker, reference)
        assert {k: v[:5] for k, v in ours.items()} == {k: v[:5] for k, v in theirs.items()}
        assert [k for k in ours if ours[k] != theirs[k] and None not in (ours[k][5], theirs[k][5])] == []
        assert taker.docker("run", "--rm", reference).stdout == "hello from the context\n"


def test_a_third_partys_storage_driver_runs_a_container(short_tmp: Path) -> None:
    from conftest import import_busybox

    with support.hooper(short_tmp / "third", config='[storage]\ndriver = "example"\n') as daemon:
        import_busybox(daemon)
        assert (
            daemon.docker("run", "--rm", "busybox", "echo", "on a stranger's driver").stdout
            == "on a stranger's driver\n"
        )
        assert daemon.docker("info", "-f", "{{.Driver}}").stdout == "example\n"
        inspected = json.loads(daemon.hooper("plugin", "inspect", "example").stdout)
        assert [(row["kind"], row["status"], row["distribution"]) for row in inspected] == [
            ("storage", "active", "hooper-storage-example")
        ]


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_bundled_storage_drivers_give_the_same_layers(short_tmp: Path, tmp_path: Path, driver: str) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN mkdir /a && echo x >/a/b && rm /etc/group\nRUN rm -r /a && mkdir /a\n"
    )
    with support.hooper(short_tmp / driver, config=f'[storage]\ndriver = "{driver}"\n') as daemon:
        from conftest import import_busybox

        import_busybox(daemon)
        daemon.docker("build", "-t", "t", str(tmp_path))
        assert daemon.docker("run", "--rm", "t", "sh", "-c", "ls /a; ls /etc").stdout.split() == [
            "hostname",
            "hosts",
            "mtab",
            "passwd",
            "resolv.conf",
        ]


def test_a_daemon_is_started_on_demand(short_tmp: Path) -> None:
    place = short_tmp / "demand"
    environment = {
        **os.environ,
        "HOOPER_DAEMON_DATA_ROOT": str(place / "data"),
        "HOOPER_DAEMON_EXEC_ROOT": str(place / "exec"),
        "HOOPER_DAEMON_HOSTS": f"unix://{place}/exec/hooper.sock",
    }
    place.mkdir()
    done = support.run(sys.executable, "-m", "hooper", "version", env=environment, check=False)
    pid = (place / "exec/daemon.lock").read_text().strip() if (place / "exec/daemon.lock").exists() else ""
    try:
        assert done.returncode == 0, done.stderr
        assert "Server" in done.stdout and pid
    finally:
        if pid:
            os.kill(int(pid), 15)


def test_the_demo_leaves_nothing() -> None:
    before = set(os.listdir("/tmp"))
    done = support.run(sys.executable, "-m", "hooper", "demo")
    for step in ("base image", "build", "page", "push", "pull"):
        assert step in done.stdout, done.stdout
    support.until(
        lambda: not {n for n in set(os.listdir("/tmp")) - before if n.startswith("hooper")}, what="a clean /tmp"
    )


BROKEN_PLUGIN = """\
from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl

@hookimpl
def hooper_register_storage_drivers():
    raise RuntimeError("broken on purpose")
"""


SUBSCRIBER_PLUGIN = """\
from pathlib import Path
from hooper.api.frontend import Subscriber
from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl

class Notes(Subscriber):
    async def run(self, events, engine):
        async for event in events:
            with open(Path(__file__).with_name("notes"), "a") as file:
                print(event.type, event.action, file=file)

@hookimpl
def hooper_register_event_subscribers():
    yield DriverSpec("notes", "writes events down", factory="hooper_notes:Notes")
"""


def distribution(place: Path, name: str, code: str) -> None:
    """An installed distribution with one plugin, as pip leaves it."""
    info = place / f"hooper_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (place / f"hooper_{name}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hooper-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hooper.plugins]\n{name} = hooper_{name}\n")


def test_an_event_subscriber_is_told(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = short_tmp / "notes-plugin"
    distribution(place, "notes", SUBSCRIBER_PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(place))
    with support.hooper(short_tmp / "with-notes") as daemon:
        daemon.docker("volume", "create", "seen")
        support.until(
            lambda: (place / "notes").exists() and "volume create" in (place / "notes").read_text(), what="a note"
        )
    told = (place / "notes").read_text().splitlines()
    assert told.count("volume create") == 1, told


def test_the_network_driver_is_configured(short_tmp: Path) -> None:
    with support.hooper(short_tmp / "netdriver", config='[network]\ndriver = "bridge"\n') as daemon:
        status, made = daemon.request("POST", "/networks/create", {"Name": "without-driver"})
        assert status == 201, made
        assert daemon.docker("network", "inspect", "-f", "{{.Driver}}", "without-driver").stdout == "bridge\n"
        daemon.docker("network", "rm", "without-driver")
    wrong = support.hooper(short_tmp / "nonet", config='[network]\ndriver = "nope"\n')
    with pytest.raises(AssertionError, match='"nope" not found: no active plugin brings a network driver'):
        wrong.__enter__()


def test_disk_usage_counts_what_only_the_build_cache_keeps(clean: Hooper, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN head -c 3000000 /dev/zero >/large\n")
    clean.docker("build", "-t", "large", str(tmp_path))
    clean.docker("builder", "prune", "-f", check=False)
    before = clean.request("GET", "/system/df")[1]["BuilderSize"]
    clean.docker("rmi", "large")
    kept = clean.request("GET", "/system/df")[1]["BuilderSize"]
    assert kept - before > 3_000_000
    assert clean.request("POST", "/build/prune?all=1")[0] == 200
    assert clean.request("GET", "/system/df")[1]["BuilderSize"] == 0


def test_a_broken_plugin_is_shown_and_takes_nobody_down(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = short_tmp / "broken-plugin"
    distribution(place, "broken", BROKEN_PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(place))
    with support.hooper(short_tmp / "with-broken") as daemon:
        shown = daemon.hooper("plugin", "ls").stdout
        rows = {line.split()[1]: line for line in shown.splitlines()}
        assert "active" in rows["overlay"] and "active" in rows["namespaces"]
        assert "error" in rows["broken"] and "broken on purpose" in rows["broken"]
        doctor = daemon.hooper("plugin", "doctor", check=False)
        assert doctor.returncode == 1
        assert "RuntimeError: broken on purpose" in doctor.stdout and "Traceback" in doctor.stdout
