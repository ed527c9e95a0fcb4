"""The launcher: that it dies, that it cannot start, and the network namespaces that are made for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from runtime_support import HERE, Exit, launch, make_launcher, spawn_of

from hooper.api.errors import HooperError
from hooper.runtime.client import Launcher, MonitorClient
from hooper.runtime.protocol import NewNetns

pytestmark = pytest.mark.anyio


async def test_a_launcher_that_died_is_started_again(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    os.kill(launcher.pid, signal.SIGKILL)
    await anyio.to_thread.run_sync(os.waitid, os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
    _, other = await launch(launcher, spawn_of(tmp_path / "d", "true"))
    assert (await other.wait()).exit_code == 0
    await monitor.signal(signal.SIGKILL)
    assert (await exit.wait()).exit_code == 137


async def test_a_daemon_killed_with_its_launcher_leaves_the_container_running(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    script = textwrap.dedent(f"""
        import anyio, os, pathlib, signal
        import runtime_support as t
        async def main():
            launcher = t.make_launcher(pathlib.Path({str(tmp_path)!r}))
            await t.launch(launcher, t.spawn_of(pathlib.Path({str(directory)!r}), "sleep", "60"))
            os.kill(launcher.pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        anyio.run(main)
    """)
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    # Its output is read to the end: a monitor that held it open would hang this test.
    daemon = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, check=False, timeout=60
        )
    )
    assert daemon.returncode == -signal.SIGKILL, daemon.stderr
    monitor, status = await MonitorClient.connect(directory)
    assert Path(f"/proc/{status.pid}").exists()
    await monitor.signal(signal.SIGKILL)
    assert (await Exit(monitor).wait()).exit_code == 137


async def test_a_launcher_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(HooperError, match="cannot start the launcher"):
        await make_launcher(tmp_path).start()


@pytest.mark.root
async def test_a_new_network_namespace(launcher: Launcher, tmp_path: Path) -> None:
    how = NewNetns(disable_ipv6=True, sysctls={"net.ipv4.ip_forward": "1"})
    options = {"netns": "new", "new_netns": how}
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "sleep", "60", **options))
    sandbox = await monitor.sandbox()
    shown = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [
                "nsenter",
                f"--net=/proc/self/fd/{sandbox}",
                "sh",
                "-c",
                "cat /sys/class/net/lo/flags /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/lo/disable_ipv6",
            ],
            pass_fds=[sandbox],
            capture_output=True,
            text=True,
            check=True,
        )
    )
    assert shown.stdout.split() == ["0x9", "1", "1"]
    assert os.fstat(sandbox).st_ino != os.stat("/proc/self/ns/net").st_ino
    await monitor.created()
    again = await monitor.get_sandbox()
    assert os.fstat(again).st_ino == os.fstat(sandbox).st_ino
    os.close(again)
    os.close(sandbox)
    await monitor.aclose()


@pytest.mark.root
async def test_a_sysctl_outside_the_network_is_refused(launcher: Launcher, tmp_path: Path) -> None:
    options = {"netns": "new", "new_netns": NewNetns(sysctls={"net/../kernel/hostname": "x"})}
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "true", **options))
    with pytest.raises(HooperError, match="network namespace"):
        await monitor.created()
