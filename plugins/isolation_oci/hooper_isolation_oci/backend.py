"""The isolation backend that drives an OCI runtime program (runc, crun, runsc).

(OCI runtime-spec, runtime.md, and the command line that runc has made the custom.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hooper.api import oci
from hooper.api.driver import HostInfo
from hooper.api.errors import Conflict, Internal, SkipDriver
from hooper.api.isolation import Bundle, IsolationBackend, Process, Stats, Stdio
from hooper.linux import mounts
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup, open_cgroup
from hooper_isolation_oci import document, program
from hooper_isolation_oci.config import OciConfig
from hooper_isolation_oci.console import ConsoleSocket

_OLDEST = {"runc": (1, 0), "crun": (1, 0)}
_PROBE_PATIENCE = 10.0


class OciBackend(IsolationBackend):
    """One runtime program, named by the backend's name or its settings.

    Its files in a container's directory begin with `oci-`.
    """

    def __init__(self, name: str, config: Any) -> None:
        super().__init__(name, config)
        self._settings = config if isinstance(config, OciConfig) else OciConfig()
        self._path = ""
        self._own_mounts = False
        """This process, a monitor, has a mount namespace of its own."""

    def probe(self, host: HostInfo) -> None:
        if not host.root:
            raise SkipDriver(self.name, "hooper does not run as root of the initial user namespace")
        path = self._find()
        if path is None:
            raise SkipDriver(
                self.name,
                f"there is no program {self._settings.path or self.name}",
                f"Install the package {self.name}, or set isolation.{self.name}.path.",
            )
        import subprocess

        text = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_PROBE_PATIENCE, check=False
        ).stdout
        found = re.search(r"version\s+(\d+)\.(\d+)", text)
        oldest = _OLDEST.get(self.name)
        if oldest and found and (int(found[1]), int(found[2])) < oldest:
            raise SkipDriver(
                self.name,
                f"{path} is version {found[1]}.{found[2]}",
                f"Install version {oldest[0]}.{oldest[1]} or newer (package {self.name}).",
            )

    def _find(self) -> str | None:
        return program.find(self._settings.path or self.name)

    def preload(self, host: HostInfo) -> None:
        self._path = self._find() or ""
        open_cgroup("/hooper/preload")  # the module of this host's version

    # --- create and start ---

    def create(self, bundle: Bundle, stdio: Stdio) -> Process:
        try:
            self._mount_root(bundle)
            place = _file(bundle, "bundle")
            place.mkdir(exist_ok=True)
            self._write_config(bundle, place / "config.json")
            return self._create(bundle, place, stdio)
        except BaseException:
            self.delete(bundle)
            raise

    def _mount_root(self, bundle: Bundle) -> None:
        if not self._own_mounts:
            sys.unshare(sys.CLONE_NEWNS)
            mounts.set_propagation("/", "rslave")
            self._own_mounts = True
        mounts.mount_snapshot(bundle.rootfs, bundle.spec.root.path)

    def _write_config(self, bundle: Bundle, path: Path) -> None:
        root = os.open(bundle.spec.root.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            netns = None if bundle.netns is None else f"/proc/{os.getpid()}/fd/{bundle.netns}"
            spec = document.for_container(bundle.spec, root, netns, init=bundle.init)
        finally:
            os.close(root)
        path.write_bytes(document.encode(spec))

    def _create(self, bundle: Bundle, place: Path, stdio: Stdio) -> Process:
        pid_file = _file(bundle, "pid")
        options = ["--bundle", str(place), "--pid-file", str(pid_file)]
        console = self._run_with_console(bundle, ["create", *options], [bundle.id], bundle.spec.process, stdio)
        return Process(int(pid_file.read_text()), console)

    def _run_with_console(
        self, bundle: Bundle, command: Sequence[str], rest: Sequence[str], process: oci.Process, stdio: Stdio
    ) -> int | None:
        if not stdio.terminal:
            self._run(bundle, [*command, *rest], stdio)
            return None
        receiver = ConsoleSocket(bundle.directory, "oci-console")
        try:
            self._run(bundle, [*command, "--console-socket", receiver.path, *rest], Stdio())
            return receiver.receive(process.console_size)
        finally:
            receiver.close()

    def start(self, bundle: Bundle, process: Process) -> None:
        self._run(bundle, ["start", bundle.id], Stdio())

    # --- the running container ---

    def exec(self, bundle: Bundle, process: oci.Process, stdio: Stdio, init_pid: int) -> Process:
        try:
            root = os.open(f"/proc/{init_pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Conflict("running a process in a container", "the container has ended", "Start it again.") from error
        try:
            resolved = document.for_process(process, root)
        finally:
            os.close(root)
        resolved.terminal = stdio.terminal
        description, pid_file = _file(bundle, "exec.json"), _file(bundle, "exec-pid")
        description.write_bytes(document.encode_process(resolved))
        command = ["exec", "--detach", "--process", str(description), "--pid-file", str(pid_file)]
        console = self._run_with_console(bundle, command, [bundle.id], process, stdio)
        return Process(int(pid_file.read_text()), console)

    def pause(self, bundle: Bundle) -> None:
        self._run(bundle, ["pause", bundle.id], Stdio())

    def resume(self, bundle: Bundle) -> None:
        self._run(bundle, ["resume", bundle.id], Stdio())

    def update(self, bundle: Bundle, resources: oci.Resources) -> None:
        limits = _file(bundle, "resources.json")
        limits.write_bytes(msgspec.json.encode(msgspec.structs.replace(resources, devices=[])))
        self._run(bundle, ["update", "--resources", str(limits), bundle.id], Stdio())

    def stats(self, bundle: Bundle) -> Stats:
        return _cgroup(bundle).stats()

    def processes(self, bundle: Bundle) -> list[int]:
        return _cgroup(bundle).pids()

    def delete(self, bundle: Bundle) -> None:
        if self._state(bundle).is_dir():
            self._call(bundle, ["delete", "--force", bundle.id], Stdio())
        _cgroup(bundle).remove()
        try:
            while True:
                sys.umount(bundle.spec.root.path)
        except OSError:
            return  # EINVAL: nothing is mounted there any more

    # --- the program ---

    def _state(self, bundle: Bundle) -> Path:
        return Path(self._settings.root) if self._settings.root else _file(bundle, "state")

    def _call(self, bundle: Bundle, command: Sequence[str], stdio: Stdio) -> int:
        if not self._path:
            self._path = self._find() or ""
        if not self._path:
            raise Internal(f"running {self.name}", "the program has vanished", f"Install the package {self.name}.")
        log = _file(bundle, "log")
        log.unlink(missing_ok=True)
        options = ["--root", str(self._state(bundle)), "--log", str(log), "--log-format", "json"]
        return program.run(self._path, [*options, *self._settings.args, *command], stdio)

    def _run(self, bundle: Bundle, command: Sequence[str], stdio: Stdio) -> None:
        """Runs a command of the program; what it logs as an error is raised."""
        if self._call(bundle, command, stdio) == 0:
            return
        message = program.last_error(_file(bundle, "log"))
        if command[0] in ("create", "start", "exec"):
            raise program.start_failure(message)
        raise Internal(f"{self.name} {command[0]} {bundle.id}", message or "the program failed and did not say why")


def _file(bundle: Bundle, name: str) -> Path:
    return bundle.directory / f"oci-{name}"


def _cgroup(bundle: Bundle) -> Cgroup:
    return open_cgroup(bundle.spec.linux.cgroups_path or f"/hooper/{bundle.id}")
