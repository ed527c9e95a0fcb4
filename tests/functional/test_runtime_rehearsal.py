"""The rehearsal leaves the launcher as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import os, signal, sys, time
from pathlib import Path
from hooper.runtime import rehearsal
from hooper_isolation_namespaces.backend import NamespacesBackend
from hooper_log_jsonfile.driver import JsonFileDriver

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
place = Path(sys.argv[1])
before = sorted(os.listdir("/proc/self/fd")), Path("/proc/self/comm").read_text()
rehearsal.rehearse_backend(NamespacesBackend("namespaces", None))
rehearsal.rehearse(place, {"json-file": JsonFileDriver("json-file", None)}, "json-file")
after = sorted(os.listdir("/proc/self/fd")), Path("/proc/self/comm").read_text()
assert before == after, (before, after)
assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
assert signal.set_wakeup_fd(-1) == -1
assert not place.exists()
children = Path("/proc/self/task", str(os.getpid()), "children")
for _ in range(2000):
    if not children.read_text():
        break
    time.sleep(0.01)
assert not children.read_text()
"""


def test_a_rehearsal_leaves_no_trace(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "rehearsal")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
