"""`hooper demo`: the main job in one go, on an engine of its own that is removed at the end.

It needs no network and no other program than this host's shell and this Python.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from hooper.cli import demo_files
from hooper.client.address import Address, parse_address
from hooper.client.api import ApiClient
from hooper.client.errors import ApiError, ConnectionFailed

BASE = "demo/base:latest"
PAGE = "Hello from a container."


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the engine's directory, to look at its logs.")
def demo(keep: bool) -> None:
    """Make an image, build on it, run it, push it, pull it back and run it again."""
    if os.geteuid() != 0:
        raise click.ClickException("the demo makes containers, which needs root here. Try: sudo hooper demo")
    directory = Path(tempfile.mkdtemp(prefix="hooper-demo-"))
    os.chmod(directory, 0o711)
    steps = Steps()
    try:
        with steps("start an engine of its own"):
            stack = contextlib.ExitStack()
            client = stack.enter_context(own_daemon(directory))
            registry = stack.enter_context(own_registry(directory))
        with stack:
            run_all(client, registry, steps)
        print(f"\nDone in {steps.total:.1f} s. Everything that was made is removed.")
    except (ApiError, ConnectionFailed) as error:
        raise click.ClickException(f"{error}\n{log_tail(directory)}") from error
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


class Steps:
    """Prints each step with its time."""

    def __init__(self) -> None:
        self.total = 0.0

    @contextlib.contextmanager
    def __call__(self, what: str) -> Iterator[Callable[[str], None]]:
        notes: list[str] = []
        started = time.perf_counter()
        yield notes.append
        took = time.perf_counter() - started
        self.total += took
        print(f"{what:<46} {took * 1000:8.0f} ms  {' '.join(notes)}".rstrip(), flush=True)


def run_all(client: ApiClient, registry: str, steps: Steps) -> None:
    """The steps, in the order a person would take them."""
    reference = f"{registry}/demo/web:1"
    with steps("make a base image from this host's shell") as note:
        content = demo_files.base_image()
        import_image(client, content)
        note(f"{BASE}, {len(content) / 1e6:.1f} MB")
    with steps("build an image from a Dockerfile on it") as note:
        note(f"{reference} {build(client, reference)}")
    with steps("run it with a published port") as note:
        container, port = run_container(client, reference)
        note(f"127.0.0.1:{port}")
    with steps("fetch its page"):
        expect_page(port)
    with steps("push it to a registry"):
        for _ in progress(client, f"/images/{registry}/demo/web/push", {"tag": "1"}):
            pass
    with steps("remove container and image"):
        client.delete(f"/containers/{container}", {"force": 1, "v": 1})
        client.delete(f"/images/{reference}", {"force": 1})
        client.post("/build/prune", query={"all": 1})  # else its layers stay in the build cache
    with steps("pull it back"):
        for _ in progress(client, "/images/create", {"fromImage": f"{registry}/demo/web", "tag": "1"}):
            pass
    with steps("run it again and fetch its page"):
        container, port = run_container(client, reference)
        expect_page(port)
    with steps("remove everything"):
        client.delete(f"/containers/{container}", {"force": 1, "v": 1})
        client.delete(f"/images/{reference}", {"force": 1})
        client.delete(f"/images/{BASE}", {"force": 1})


@contextlib.contextmanager
def own_daemon(directory: Path) -> Iterator[ApiClient]:
    """A daemon whose roots lie in the directory; its containers are gone before it ends."""
    address = parse_address(f"unix://{directory}/hooper.sock")
    command = [sys.executable, "-m", "hooper", "daemon", "--host", str(address), "--data-root", f"{directory}/data"]
    with (directory / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--exec-root", f"{directory}/exec"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        connection = wait_for(address, process, directory)
        client = ApiClient(address, connection)
        yield client
    finally:
        with contextlib.suppress(ApiError, ConnectionFailed, UnboundLocalError):
            for container in client.get("/containers/json", {"all": 1}):
                client.delete(f"/containers/{container['Id']}", {"force": 1, "v": 1})
        process.terminate()
        process.wait(20)


def wait_for(address: Address, process: subprocess.Popen[bytes], directory: Path) -> Any:
    deadline = time.monotonic() + 20
    while True:
        try:
            return address.connect()
        except ConnectionFailed as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ConnectionFailed("the demo's daemon did not start", log_tail(directory)) from error
            time.sleep(0.01)


def log_tail(directory: Path) -> str:
    """The last lines of the daemon's log."""
    log = directory / "daemon.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:]) if log.exists() else ""


@contextlib.contextmanager
def own_registry(directory: Path) -> Iterator[str]:
    """A registry in this process, on a loopback port; its HOST:PORT."""
    import anyio
    import anyio.from_thread

    from hooper.testing.registry import Registry

    ready, host = threading.Event(), ""
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        nonlocal host
        ended = anyio.Event()
        async with Registry(directory / "registry") as registry:
            host = registry.host
            async with anyio.from_thread.BlockingPortal() as portal:
                stop.append(lambda: portal.call(ended.set))
                ready.set()
                await ended.wait()

    thread = threading.Thread(target=anyio.run, args=(serve,), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield host
    finally:
        stop[0]()
        thread.join(10)


def import_image(client: ApiClient, content: bytes) -> None:
    name, _, tag = BASE.partition(":")
    query: dict[str, object] = {
        "fromSrc": "-",
        "repo": name,
        "tag": tag,
        "changes": ['CMD ["/bin/sh"]', "ENV PATH=/bin"],
    }
    for _ in progress(client, "/images/create", query, content):
        pass


def build(client: ApiClient, reference: str) -> str:
    """Returns the image's short id."""
    found = ""
    for message in progress(client, "/build", {"t": reference, "rm": 1}, demo_files.build_context(BASE, PAGE)):
        found = message.get("aux", {}).get("ID", found)
    return found.removeprefix("sha256:")[:12]


def progress(
    client: ApiClient, path: str, query: dict[str, object], body: bytes | None = None
) -> Iterator[dict[str, Any]]:
    """The messages of a long call; an error among them is raised."""
    headers = {"Content-Type": "application/x-tar"} if body else {}
    for message in client.json_lines("POST", path, query, body=body, headers=headers):
        if "error" in message:
            raise ApiError(500, message["error"])
        yield message


def run_container(client: ApiClient, reference: str) -> tuple[str, int]:
    """A detached container with port 80 on a free loopback port: its id and the port."""
    body = {
        "Image": reference,
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}},
    }
    container = client.post("/containers/create", body)["Id"]
    client.post(f"/containers/{container}/start")
    ports = client.get(f"/containers/{container}/json")["NetworkSettings"]["Ports"]
    return container, int(ports["80/tcp"][0]["HostPort"])


def expect_page(port: int) -> None:
    """Fetches the page, waiting for the server to listen; ApiError if it is not the right one."""
    deadline = time.monotonic() + 10
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/")
            text = connection.getresponse().read().decode()
        except OSError as error:
            if time.monotonic() > deadline:
                raise ApiError(500, f"no page came from port {port}: {error}") from error
            time.sleep(0.01)
        else:
            if text.strip() != PAGE:
                raise ApiError(500, f"the page from port {port} was {text!r}")
            return
        finally:
            connection.close()
