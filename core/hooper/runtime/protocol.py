"""What daemon, launcher, monitor and workers say to each other.

All channels are SOCK_SEQPACKET unix sockets: one datagram is one message, msgpack of one of the structs
below (tagged), with its descriptors in the same datagram (SCM_RIGHTS) in the order that the struct's
comment gives. A message of more than `INLINE_MAX` bytes travels in a sealed memfd, the first
descriptor, and the datagram is empty.

    daemon ──Spawn──> launcher          one long-lived pair; the launcher says Done (id 0) once it has
                                        imported everything, or Failed, and nothing afterwards
    launcher ──Spawn──> spare           a monitor that waits for a container: the same datagram, passed on
    launcher <──again── monitor         its container is over: an end of a pair, for the next Spawn
    daemon <────> monitor               a pair that goes along with Spawn; a fork that fails is told there,
                                        as Failed (id 0); later daemons connect to `monitor.sock` in the
                                        container's directory and begin with Hello
    daemon ──Call──> launcher           passes it on to the server of workers, which forks one
    daemon <──Return/Failed── worker    a pair that goes along with Call; closing it kills the worker
"""

from __future__ import annotations

import msgspec

from hooper.api import oci
from hooper.api.driver import HostInfo
from hooper.api.isolation import Outline, Stats
from hooper.api.logs import LogTarget

INLINE_MAX = 64 * 1024
MONITOR_SOCKET = "monitor.sock"
EXIT_FILE = "exit.json"
"""An `Exited`, as JSON, written in the bundle directory and fsynced before it is sent."""


class Message(msgspec.Struct, tag=True, omit_defaults=True):
    pass


# --- daemon to launcher ---------------------------------------------------------------------------


class DriverReference(msgspec.Struct, kw_only=True):
    """A driver for the launcher to import. `factory` is "module:Class", `config_type` "module:Struct" or
    "" for a driver without settings, which are JSON."""

    name: str
    factory: str
    config_type: str = ""
    config: msgspec.Raw = msgspec.Raw(b"null")


class NewNetns(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a network namespace is made, beside that lo is up."""

    disable_ipv6: bool = False
    sysctls: dict[str, str] = {}
    """net.* only."""


class LauncherConfig(msgspec.Struct, kw_only=True):
    """The first thing that the launcher hears, as JSON."""

    backends: list[DriverReference]
    log_drivers: list[DriverReference]
    log_driver: str = ""
    """The default one, where it is among them."""
    host: HostInfo
    usual_netns: NewNetns = NewNetns()
    """How most containers have theirs: one is made so in advance."""


class Spawn(Message, kw_only=True):
    """Fork a monitor for a container.

    Descriptors: the monitor's end of its pair; the network namespace if `netns` is "given";
    then for each of `attached` its connection.
    """

    container_id: str
    directory: str
    """`Bundle.directory`."""
    bundle: msgspec.Raw
    """The `Bundle`, packed once more: the monitor unpacks it when it needs it."""
    outline: Outline
    backend: str
    netns: str
    """new (make one as `new_netns` says, and answer with `Sandbox`), host, or given."""
    log_driver: str
    """ "" or "none": nothing is kept."""
    log: LogTarget | None = None
    stdin: bool = False
    """OpenStdin: keep a pipe (or the pty) for stdin; otherwise stdin is /dev/null."""
    stdin_once: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None
    attached: list[Attach] = []
    new_netns: NewNetns = NewNetns()


class Attach(Message, kw_only=True):
    """Also sent to a running monitor, which gives no answer: it closes the connection if there is
    nothing to attach to. Descriptor: the connection."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: bytes = b"\x10\x11"
    """Looked for with a tty only."""
    received: bytes = b""
    """What the client had sent after its request: the beginning of its stdin."""
    follows_head: bool = False
    """The client may not have read the head of its stream yet: see `hooper.linux.unread`."""
    exec_id: str = ""
    """"": the container's own streams."""


class Failed(Message, kw_only=True):
    """Answer to any request: `error` is `hooper.api.errors.to_wire`'s."""

    error: dict[str, str | int]
    id: int = 0


# --- daemon to monitor ----------------------------------------------------------------------------
# Requests carry an `id`; the answer (Done, Failed or as noted) repeats it.


class Hello(Message, kw_only=True):
    """First message of a daemon that connects; the monitor answers with `Status`."""

    id: int


class Start(Message, kw_only=True):
    """The network is ready: execute the program as soon as all is made. Answered by Started or Failed.

    Descriptors: any number of sockets, kept open as long as the container lives.
    """

    id: int


class Abort(Message, kw_only=True):
    """The start is given up: nothing of the container is to remain, whether it runs by now or not. No answer; the
    connection is closed when it is so."""


class Hold(Message, kw_only=True):
    """Descriptors to keep open as long as the container lives, under a name (`network connect`)."""

    id: int
    name: str


class Unhold(Message, kw_only=True):
    id: int
    name: str


class Signal(Message, kw_only=True):
    id: int
    signal: int
    exec_id: str = ""


class Resize(Message, kw_only=True):
    id: int
    height: int
    width: int
    exec_id: str = ""


EXPECTED_S = 1.0
"""How long an exec is expected after ExpectExec, and again after one has ended in this time."""


class ExpectExec(Message, kw_only=True):
    """A StartExec will probably follow within moments. No answer."""


class StartExec(Message, kw_only=True):
    """Descriptor: the connection, if `attach` is given. Answered by Started or Failed."""

    id: int
    exec_id: str
    process: oci.Process
    attach: Attach | None = None
    stdin: bool = False


class Pause(Message, kw_only=True):
    id: int


class Resume(Message, kw_only=True):
    id: int


class Update(Message, kw_only=True):
    id: int
    resources: oci.Resources


class GetStats(Message, kw_only=True):
    """Answered by StatsAnswer."""

    id: int


class GetProcesses(Message, kw_only=True):
    """Answered by ProcessesAnswer."""

    id: int


class GetSandbox(Message, kw_only=True):
    """Answered by Sandbox with the namespace's descriptor."""

    id: int


class Release(Message, kw_only=True):
    """Sent after `Exited` has been recorded: the monitor may go. No answer."""

    id: int = 0


# --- monitor to daemon ----------------------------------------------------------------------------


class Sandbox(Message, kw_only=True):
    """Descriptor: the network namespace. `id` 0: unasked, after Spawn with netns "new"."""

    id: int = 0


class Created(Message, kw_only=True):
    """Unasked, after Spawn, unless Start came before: the first process is set up and waits for Start. Failed
    (id 0) if it cannot be, and the monitor ends after it."""

    pid: int


class Started(Message, kw_only=True):
    id: int
    pid: int
    time_ns: int


class Done(Message, kw_only=True):
    id: int


class Status(Message, kw_only=True):
    """The answer to Hello. `started` False: still waiting for Start."""

    id: int
    pid: int
    started: bool
    paused: bool
    started_ns: int
    execs: dict[str, int] = {}
    """Running ones: exec id to pid."""


class StatsAnswer(Message, kw_only=True):
    id: int
    stats: Stats


class ProcessesAnswer(Message, kw_only=True):
    id: int
    pids: list[int]


class Exited(Message, kw_only=True):
    """The container ended. All output has been logged and sent to those attached."""

    exit_code: int
    """128 + n for signal n."""
    oom_killed: bool
    time_ns: int
    execs: dict[str, int] = {}
    """Exit codes of the execs that ended last, by id: a daemon may have missed them."""


class ExecExited(Message, kw_only=True):
    """Those that ended last are told again to a daemon that connects."""

    exec_id: str
    exit_code: int
    time_ns: int


class Detached(Message, kw_only=True):
    """A client has typed its detach keys. Unasked."""

    exec_id: str = ""
    """"": it was attached to the container itself."""


# --- workers --------------------------------------------------------------------------------------


class Call(Message, kw_only=True):
    """Daemon to launcher: fork a worker. Descriptors: the worker's end of its pair, then the call's own."""

    function: str
    arguments: bytes
    """msgpack."""


class Return(Message, kw_only=True):
    value: bytes
    """msgpack."""


ToMonitor = (
    Hello
    | Start
    | Abort
    | Hold
    | Unhold
    | Attach
    | Signal
    | Resize
    | ExpectExec
    | StartExec
    | Pause
    | Resume
    | Update
    | GetStats
    | GetProcesses
    | GetSandbox
    | Release
)
FromMonitor = (
    Sandbox
    | Created
    | Started
    | Done
    | Failed
    | Status
    | StatsAnswer
    | ProcessesAnswer
    | Exited
    | ExecExited
    | Detached
)
