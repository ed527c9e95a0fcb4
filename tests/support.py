"""What functional tests share: daemons, registries and clients, all real."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSYBOX = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), "")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], object], seconds: float = 20, what: str = "condition") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not so after {seconds} s")
        time.sleep(0.02)


def run(
    *command: str, check: bool = True, stdin: str | bytes | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    data = stdin.decode() if isinstance(stdin, bytes) else stdin
    source: dict[str, Any] = {"input": data} if data is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, **source, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


@dataclass
class Engine:
    """A daemon that speaks the Docker Engine API, and clients of it."""

    address: str
    data_root: Path
    exec_root: Path

    @property
    def socket_path(self) -> str:
        return self.address.removeprefix("unix://")

    def docker(self, *words: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": "/nonexistent"}
        return run("docker", "-H", self.address, *words, check=check, env=environment, **more)

    def hooper(self, *words: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, "-m", "hooper", "-H", self.address, *words, check=check, **more)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """(status, decoded JSON or text)."""
        connection = UnixHttp(self.socket_path)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def inspect(self, name: str) -> dict[str, Any]:
        status, content = self.request("GET", f"/containers/{name}/json")
        assert status == 200, content
        return dict(content)

    def clear(self) -> None:
        """Removes every container."""
        for container in self.request("GET", "/containers/json?all=1")[1]:
            self.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")


@dataclass
class Hooper(Engine):
    """A hooper daemon on roots of its own."""

    config: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    arguments: list[str] = field(default_factory=list)

    def start(self) -> None:
        log = (self.data_root.parent / "daemon.log").open("ab")
        command = [sys.executable, "-m", "hooper", "daemon", "--host", self.address, "--data-root", str(self.data_root)]
        command += ["--exec-root", str(self.exec_root), *self.arguments]
        if self.config:
            command += ["--config", str(self.config)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(self._answers, what=f"daemon at {self.address}: {self.log_tail()}")

    def _answers(self) -> bool:
        if self.process and self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log_tail()}")
        try:
            return self.request("GET", "/_ping")[0] == 200
        except OSError:
            return False

    def log_tail(self) -> str:
        path = self.data_root.parent / "daemon.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def hooper(directory: Path, config: str = "", arguments: list[str] | None = None) -> Iterator[Hooper]:
    """A daemon in `directory`, stopped with all its containers at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    file = None
    if config:
        file = directory / "config.toml"
        file.write_text(config)
    engine = Hooper(
        f"unix://{directory}/h.sock", directory / "data", directory / "exec", config=file, arguments=arguments or []
    )
    engine.start()
    try:
        yield engine
    except BaseException:
        # Its containers would outlive it, and be in the way of the next run.
        with contextlib.suppress(OSError):
            engine.clear()
        raise
    else:
        engine.clear()
    finally:
        engine.stop()
        forget_network(engine.exec_root)
        shutil.rmtree(directory, ignore_errors=True)


def forget_network(exec_root: Path) -> None:
    """Removes the bridges and the table of a daemon that was killed, which keeps them for the next one on its roots."""
    from hooper_net_bridge.naming import default_bridge, table

    run("nft", "delete", "table", "inet", table(exec_root), check=False)
    run("ip", "link", "delete", default_bridge(exec_root), check=False)


@contextlib.contextmanager
def docker_registry(directory: Path, htpasswd: str = "", **more: Any) -> Iterator[str]:
    """Debian's docker-registry on a loopback port, with `more` of its configuration; its HOST:PORT."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "registry")}, "delete": {"enabled": True}},
        **more,
        "http": {"addr": f"127.0.0.1:{port}", **more.get("http", {})},
    }
    if htpasswd:
        (directory / "htpasswd").write_text(htpasswd)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    (directory / "registry.yml").write_text(json.dumps(config))
    server = subprocess.Popen(
        ["docker-registry", "serve", str(directory / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _listens(port), what="docker-registry")
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def dockerd(directory: Path) -> Iterator[Engine]:
    """A real dockerd with a bridge and roots of its own."""
    bridge = f"hpt{os.getpid() % 100000}"
    # Apart from those that tests name.
    subnet = f"10.{70 + os.getpid() % 20}.{os.getpid() % 250}.1/24"
    run("ip", "link", "add", bridge, "type", "bridge")
    run("ip", "address", "add", subnet, "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    directory.mkdir(parents=True, exist_ok=True)
    engine = Engine(f"unix://{directory}/d.sock", directory / "data", directory / "exec")
    with (directory / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "dockerd", "--data-root", str(engine.data_root), "--exec-root", str(engine.exec_root),
                "--bridge", bridge,
                "--pidfile", str(directory / "pid"), "-H", engine.address, "--ip-masq",
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        until(lambda: engine.docker("version", check=False).returncode == 0, 60, "dockerd")
        yield engine
    finally:
        process.terminate()
        process.wait(60)
        run("ip", "link", "delete", bridge, check=False)
        _forget_rules(bridge)
        _unmount_below(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _unmount_below(directory: Path) -> None:
    """dockerd leaves a mount of the host's network namespace behind."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place.startswith(f"{directory}/"):
            run("umount", "-l", place, check=False)


def _forget_rules(bridge: str) -> None:
    """dockerd leaves its iptables rules behind; each packet of every later test would go past them."""
    for table in ("filter", "nat"):
        listed = run("iptables", "-t", table, "-S", check=False).stdout
        for rule in listed.splitlines():
            if bridge in rule.split():
                run("iptables", "-t", table, *shlex.split(rule.replace("-A ", "-D ", 1)), check=False)


def busybox_tar() -> bytes:
    """The file system of an image with busybox alone."""
    applets = run(BUSYBOX, "--list").stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "home", "proc", "root", "tmp", "var"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        archive.add(os.path.realpath(BUSYBOX), "bin/busybox")
        for name in applets:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        for name, text in {
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
            "etc/group": "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n",
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def context_tar(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def write_docker_archive(rootfs: Path, archive: Path, tag: str) -> None:
    """A docker-archive of one layer, written without any engine."""
    import hashlib

    digest = hashlib.sha256()
    with rootfs.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "mmdebstrap"}],
        "created": "2024-01-01T00:00:00Z",
    }
    content = json.dumps(config).encode()
    name = hashlib.sha256(content).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as out:
        out.add(rootfs, "layer.tar")
        for entry_name, data in ((name, content), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(entry_name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))
