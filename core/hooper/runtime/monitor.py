"""The owner of one container: its pid, its streams, its log, its exit status.

A single-threaded process, forked from the launcher, that outlives the daemon. Nothing that goes wrong
in here may end the container: it is noted in `monitor.log` in the bundle directory.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hooper.api.errors import Conflict, HooperError, Internal, NotFound, to_wire
from hooper.api.isolation import Bundle, IsolationBackend, Process
from hooper.api.logs import LogDriver, LogWriter
from hooper.linux import syscalls
from hooper.runtime import heap, maker, spare, wire
from hooper.runtime import protocol as p
from hooper.runtime.log_writers import open_writer
from hooper.runtime.loop import READ, Loop
from hooper.runtime.maker import Making
from hooper.runtime.owned import Owned
from hooper.runtime.streams import Ends

LOG_FILE = "monitor.log"
RELEASE_S = 10.0
"""How long a connected daemon may take to say Release."""
EXECS_REMEMBERED = 32
"""How many of those that ended a daemon that connects is told of."""
SETTLED_S = 0.1
"""A container that runs for so long may run for longer: what its start took of memory is given back."""
SEND_S = 2
"""A daemon that takes no message for so long is dropped; it can connect again."""

_spawn_decoder = wire.decoder(p.Spawn)
_request_decoder = wire.decoder(p.ToMonitor)

Handler = Callable[["Monitor", Any, list[int]], p.Message | None]


def main(
    channel: socket.socket,
    data: bytes,
    fds: list[int],
    backends: Mapping[str, IsolationBackend],
    log_drivers: Mapping[str, LogDriver],
    made: spare.Netns | None = None,
) -> bool:
    """What a fork of the launcher does with an encoded Spawn; returns when the container is over and recorded.

    `fds` are Spawn's after the first one, which `channel` is made of; `made` is a namespace that may serve. True if
    the process may have another container: nothing went wrong, and nothing is left of this one.
    """
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    try:
        spawn = _spawn_decoder.decode(data)
        spawn.bundle = spawn.bundle.copy()  # it would keep all of the data
        del data
        monitor = _begin(channel, spawn, fds, backends, made)
    except Exception as error:
        wire.send(channel, wire.encode(p.Failed(error=to_wire(error))))
        return False
    wire.name_process("hooper-monitor")
    if not monitor.begin(log_drivers):
        return False
    monitor.loop.run()
    return monitor.close()


def _begin(
    channel: socket.socket,
    spawn: p.Spawn,
    fds: list[int],
    backends: Mapping[str, IsolationBackend],
    made: spare.Netns | None,
) -> Monitor:
    backend = _named(backends, spawn.backend, "isolation backend")
    netns = spare.taken(made, spawn.new_netns if spawn.netns == "new" else None)
    if netns is not None:
        # First of all: the daemon has much to do with it.
        wire.send(channel, wire.encode(p.Sandbox()), [netns])
    elif spawn.netns == "given":
        netns = fds.pop(0)
    return Monitor(channel, spawn, backend, netns, fds)


def _named(drivers: Mapping[str, Any], name: str, kind: str) -> Any:
    try:
        return drivers[name]
    except KeyError:
        raise NotFound(
            f'{kind} "{name}"', "the launcher has none of that name", f"There are: {', '.join(drivers) or 'none'}."
        ) from None


class Monitor:
    """Made of a Spawn; `begin`, then its loop runs until the container is over and recorded; then `close`."""

    def __init__(
        self,
        channel: socket.socket,
        spawn: p.Spawn,
        backend: IsolationBackend,
        netns: int | None,
        waiting: list[int],
    ) -> None:
        self.loop = Loop(self.note)
        self._spawn, self._backend, self._netns = spawn, backend, netns
        self._ends = Ends.open(tty=spawn.tty, stdin=spawn.stdin)
        self._making = Making(spawn, backend, self._ends.theirs, netns, channel)
        self._unpacked: Bundle | None = None
        self._waiting = waiting
        """Connections to attach once there is something to attach them to."""
        self._start_id = 0
        """Of the Start that is to be answered."""
        self._spawner = channel
        self._daemons: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._held: dict[str, list[int]] = {}
        self._log: LogWriter | None = None
        self._lost = 0
        self._container = self._owned(
            self._ends,
            tty=spawn.tty,
            stdin=spawn.stdin,
            stdin_once=spawn.stdin_once,
            log=self._write_log,
            on_drained=lambda _: None,
            on_over=self._conclude,
            on_detached=lambda: self._tell(p.Detached()),
        )
        self._execs: dict[str, Owned] = {}
        self._ended_execs: list[p.ExecExited] = []
        self._expecting = 0
        """The timer that ends the waiting for an exec."""
        self._started_ns = 0
        self._paused = False
        self._given_up = False
        self._noted = False
        self._exited: p.Exited | None = None

    def _path(self, name: str) -> str:
        return f"{self._spawn.directory}/{name}"

    @property
    def _bundle(self) -> Bundle:
        if self._unpacked is None:
            self._unpacked = maker.unpacked(self._spawn, self._netns)
        return self._unpacked

    # --- making ---

    def begin(self, log_drivers: Mapping[str, LogDriver]) -> bool:
        """Gets ready for the container, and begins to make it; False if that went wrong."""
        try:
            self.loop.watch_children(self._reap)
            self._watch_making()
            self._add_daemon(self._spawner)
            self._open_log(log_drivers)
            self._listen()
            self._making.begin()
        except Exception as error:
            self._fail(to_wire(error))
            return False
        return True

    def _watch_making(self) -> None:
        self.loop.watch(self._making.fileno(), READ, self._made)

    def _made(self, _: int) -> None:
        """The process that makes the container has something to say."""
        heard = self._making.receive()
        if heard is None:
            self._is_made()
            return
        message, fds = heard
        if isinstance(message, p.Sandbox):
            self._netns = fds[0]
        elif isinstance(message, p.Created):
            self._exists(message.pid, fds[0] if fds else None)
            self._is_made()
        else:
            self.loop.unwatch(self._making.fileno())
            self._making.close()
            if isinstance(message, p.Started):
                self._runs()
            elif isinstance(message, p.Failed):
                self._fail(message.error)
            elif self._start_id or not self._container.process.pid:
                self._fail(to_wire(Internal("the making of the container broke off", "its process died")))

    def _is_made(self) -> None:
        """It waits for the word to start, or, an attempt having failed, is being made once more."""
        if self._making.failed:
            self.loop.unwatch(self._making.fileno())
            self._making.begin_again()
            self._watch_making()
        elif self._start_id:
            self._making.allow()
        else:
            self._send(self._spawner, p.Created(pid=self._container.process.pid or self._making.pid))

    def _runs(self) -> None:
        if not self._container.process.pid:
            self._exists(self._making.pid, None)
        self._started_ns = time.time_ns()
        pid = self._container.process.pid
        self._send(self._spawner, p.Started(id=self._start_id, pid=pid, time_ns=self._started_ns))
        self.loop.call_later(SETTLED_S, heap.trim)

    def _exists(self, pid: int, console: int | None) -> None:
        self._container.made(Process(pid=pid, console=console), self._spawn.console_size)
        for request in self._spawn.attached:
            self._attach(request, self._waiting)

    def _fail(self, error: dict[str, str | int]) -> None:
        """The container could not be made, or its program not be executed."""
        self._abort()
        self._send(self._spawner, p.Failed(error=error))

    def _open_log(self, log_drivers: Mapping[str, LogDriver]) -> None:
        if self._spawn.log_driver not in ("", "none") and self._spawn.log is not None:
            self._log = open_writer(log_drivers, self._spawn.log_driver, self._spawn.log)

    def _listen(self) -> None:
        directory = os.open(self._spawn.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # Through the descriptor: the path itself may be longer than sun_path takes.
            path = f"/proc/self/fd/{directory}/{p.MONITOR_SOCKET}"
            listener.bind(path)
            os.chmod(path, 0o600)
            listener.listen(8)
        except OSError as error:
            listener.close()
            self.note(error)
            return
        finally:
            os.close(directory)
        self._listener = listener
        self.loop.watch(listener.fileno(), READ, lambda _: self._add_daemon(listener.accept()[0]))

    # --- daemons ---

    def _add_daemon(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, SEND_S.to_bytes(8, "little") + bytes(8))
        self._daemons.append(sock)
        self.loop.watch(sock.fileno(), READ, lambda _: self._receive(sock))

    def _drop_daemon(self, sock: socket.socket) -> None:
        if sock not in self._daemons:
            return
        self._daemons.remove(sock)
        self.loop.unwatch(sock.fileno())
        if sock is self._spawner and not self._started_ns and self._exited is None:
            self._abort()
        # Only now: whoever waits for the end of a container that was not started sees it.
        sock.close()
        self._stop_if_done()

    def _receive(self, sock: socket.socket) -> None:
        try:
            received = wire.receive(sock, wire.DONTWAIT)
        except BlockingIOError:
            return
        if received is None:
            self._drop_daemon(sock)
            return
        data, fds = received
        try:
            self._answer(sock, _request_decoder.decode(data), fds)
        finally:
            wire.close_all(fds)

    def _answer(self, sock: socket.socket, request: Any, fds: list[int]) -> None:
        """Handlers take the descriptors that they keep out of `fds`."""
        if isinstance(request, p.Release):
            self._drop_daemon(sock)
        elif isinstance(request, p.Hello):
            self._send(sock, self._status(request.id))
            for ended in self._ended_execs:
                self._send(sock, ended)
            if self._exited is not None:
                self._send(sock, self._exited)
        elif isinstance(request, p.GetSandbox) and self._netns is not None:
            self._send(sock, p.Sandbox(id=request.id), [self._netns])
        else:
            answer = self._handled(request, fds)
            if answer is not None:
                self._send(sock, answer)

    def _handled(self, request: Any, fds: list[int]) -> p.Message | None:
        handler = _HANDLERS.get(type(request), Monitor._unknown)
        try:
            answer = handler(self, request, fds)
            if answer is None and not isinstance(request, p.Attach | p.Start | p.Abort | p.ExpectExec):
                return p.Done(id=request.id)
            return answer
        except Exception as error:
            if not isinstance(error, HooperError):
                self.note(error)
            return p.Failed(id=getattr(request, "id", 0), error=to_wire(error))

    def _unknown(self, request: Any, _: list[int]) -> None:
        raise NotFound(f"network namespace of container {self._spawn.container_id}", "it runs in the host's")

    def _send(self, sock: socket.socket, message: p.Message, fds: Sequence[int] = ()) -> None:
        try:
            wire.send(sock, wire.encode(message), fds)
        except OSError:
            self._drop_daemon(sock)

    def _tell(self, message: p.Message) -> None:
        for sock in list(self._daemons):
            self._send(sock, message)

    def _status(self, request_id: int) -> p.Status:
        return p.Status(
            id=request_id,
            pid=self._container.process.pid,
            started=self._started_ns > 0,
            paused=self._paused,
            started_ns=self._started_ns,
            execs={name: owned.process.pid for name, owned in self._execs.items() if owned.running},
        )

    # --- requests ---

    def _start(self, request: p.Start, fds: list[int]) -> None:
        if self._start_id or self._exited is not None:
            raise Conflict(f"cannot start container {self._spawn.container_id}", "it was started, or has ended, before")
        self._start_id = request.id
        self._held[""] = list(fds)
        fds.clear()
        if self._making.ready:
            self._making.allow()

    def _give_up(self, _: p.Abort, __: list[int]) -> None:
        self._given_up = True
        if not self._started_ns and self._exited is None:
            self._abort()
        elif self._container.running:
            self._backend.signal(self._bundle, self._container.process.pid, signal.SIGKILL)
        elif self._exited is not None:
            self._forget_daemons()

    def _hold(self, request: p.Hold, fds: list[int]) -> None:
        self._held.setdefault(request.name, []).extend(fds)
        fds.clear()

    def _unhold(self, request: p.Unhold, _: list[int]) -> None:
        wire.close_all(self._held.pop(request.name, []))

    def _attach(self, request: p.Attach, fds: list[int]) -> None:
        owned = self._execs.get(request.exec_id) if request.exec_id else self._container
        sock = socket.socket(fileno=fds.pop(0))
        if owned is None:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        else:
            owned.streams.attach(request, sock)

    def _running(self, exec_id: str) -> Owned:
        owned = self._execs.get(exec_id) if exec_id else self._container
        if owned is None or not owned.running:
            raise Conflict(
                f"{f'exec {exec_id}' if exec_id else f'container {self._spawn.container_id}'} is not running"
            )
        return owned

    def _signal(self, request: p.Signal, _: list[int]) -> None:
        if request.exec_id in self._execs or not request.exec_id:
            owned = self._execs[request.exec_id] if request.exec_id else self._container
            # Once reaped, the pid may be another process's.
            if owned.running:
                self._backend.signal(self._bundle, owned.process.pid, request.signal)

    def _resize(self, request: p.Resize, _: list[int]) -> None:
        self._running(request.exec_id).streams.resize(request.height, request.width)

    def _expect_exec(self, _: p.ExpectExec, __: list[int]) -> None:
        self._expect_another()

    def _expect_another(self) -> None:
        if not self._container.running or self._paused:
            return
        self._guarded(lambda: self._backend.expect_exec(self._bundle, self._container.process.pid), None)
        self.loop.cancel(self._expecting)
        self._expecting = self.loop.call_later(p.EXPECTED_S, self._forget_exec)

    def _forget_exec(self) -> None:
        self._expecting = 0
        self._backend.forget_exec(self._bundle)

    def _start_exec(self, request: p.StartExec, fds: list[int]) -> p.Message:
        init = self._running("")
        if request.exec_id in self._execs:
            raise Conflict(f"exec {request.exec_id} has already run")
        terminal = request.process.terminal
        ends = Ends.open(tty=terminal, stdin=request.stdin) if request.attach else Ends.discard(tty=terminal)
        owned = self._owned(
            ends,
            tty=terminal,
            stdin=request.stdin,
            stdin_once=True,
            log=None,
            on_drained=lambda owned: self._exec_drained(request.exec_id, owned),
            on_over=lambda owned: self._exec_over(request.exec_id, owned),
            on_detached=lambda: self._tell(p.Detached(exec_id=request.exec_id)),
        )
        try:
            process = self._backend.exec(self._bundle, request.process, ends.theirs, init.process.pid)
        except BaseException:
            owned.streams.abandon()
            raise
        size = request.process.console_size
        owned.made(process, (size.height, size.width) if size else None)
        self._execs[request.exec_id] = owned
        if request.attach is not None:
            self._attach(request.attach, fds)
        return p.Started(id=request.id, pid=process.pid, time_ns=time.time_ns())

    def _pause(self, _: p.Pause, __: list[int]) -> None:
        self._running("")
        self._backend.pause(self._bundle)
        self._paused = True

    def _resume(self, _: p.Resume, __: list[int]) -> None:
        self._backend.resume(self._bundle)
        self._paused = False

    def _update(self, request: p.Update, _: list[int]) -> None:
        self._running("")
        self._backend.update(self._bundle, request.resources)

    def _stats(self, request: p.GetStats, _: list[int]) -> p.Message:
        return p.StatsAnswer(id=request.id, stats=self._backend.stats(self._bundle))

    def _processes(self, request: p.GetProcesses, _: list[int]) -> p.Message:
        return p.ProcessesAnswer(id=request.id, pids=self._backend.processes(self._bundle))

    # --- processes and their end ---

    def _owned(self, ends: Ends, **options: Any) -> Owned:
        return Owned(self.loop, ends, on_idle=self._stop_if_done, **options)

    def _reap(self) -> None:
        by_pid = {owned.process.pid: owned for owned in (self._container, *self._execs.values()) if owned.running}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._making.pid:
                self._making_ended(by_pid)
            owned = by_pid.get(pid)
            if owned is self._container and self._start_id:
                self._hear_out()
            if owned is not None and not owned.over:
                owned.exited(status)

    def _making_ended(self, by_pid: dict[int, Owned]) -> None:
        """Whether it has come to run the program shows now, if it had not been heard yet."""
        self._making.reaped = True
        while self._making.attempting:
            self._made(0)
        if self._container.running:
            by_pid[self._container.process.pid] = self._container

    def _hear_out(self) -> None:
        """The container's end must not be told before its start: takes what was said about that."""
        while not self._started_ns and not self._container.over:
            self._made(0)

    def _exec_drained(self, exec_id: str, owned: Owned) -> None:
        """Told before its client reads the end: whoever sees that may ask for the exit code at once."""
        ended = p.ExecExited(exec_id=exec_id, exit_code=owned.exit_code, time_ns=owned.ended_ns)
        # The daemon may be gone, or go before it has read this; the next one will ask.
        self._ended_execs = [*self._ended_execs[1 - EXECS_REMEMBERED :], ended]
        self._tell(ended)

    def _exec_over(self, exec_id: str, owned: Owned) -> None:
        if self._expecting:  # an exec seldom comes alone
            self.loop.call_later(0, self._expect_another)
        if not owned.streams.clients:
            self._execs.pop(exec_id, None)

    def _conclude(self, container: Owned) -> None:
        """The container is over: removes what the backend made, leaves the status behind, tells it."""
        self._close_log()
        oom_killed = self._guarded(lambda: self._backend.oom_killed(self._bundle), False)
        self._guarded(lambda: self._backend.delete(self._bundle), None)
        self._end_execs()
        self._exited = p.Exited(
            exit_code=container.exit_code,
            oom_killed=oom_killed,
            time_ns=container.ended_ns,
            execs={ended.exec_id: ended.exit_code for ended in self._ended_execs},
        )
        self._guarded(lambda: _write_durably(self._path(p.EXIT_FILE), wire.to_json(self._exited)), None)
        self._close_listener()
        self._tell(self._exited)
        self.loop.call_later(0 if self._given_up else RELEASE_S, self._forget_daemons)
        self._stop_if_done()

    def _end_execs(self) -> None:
        """None outlives the container; their reports come before its own."""
        self._reap()
        for owned in list(self._execs.values()):
            owned.end_now()

    def _forget_daemons(self) -> None:
        for sock in list(self._daemons):
            self._drop_daemon(sock)

    def _stop_if_done(self) -> None:
        """Clients that are still taking their output keep the monitor alive; nothing else does."""
        if self._exited is None or self._daemons:
            return
        if not self._container.streams.clients and not any(owned.streams.clients for owned in self._execs.values()):
            self.loop.stop()

    def _abort(self) -> None:
        """The container was never started: nothing of it remains."""
        self._container.over = True
        self._making.break_off(self._container.process.pid if self._container.running else 0)
        self._container.streams.finish()
        self._guarded(lambda: self._backend.delete(self._bundle), None)
        self._close_log()
        self._close_listener()
        self.loop.stop()

    def _close_listener(self) -> None:
        if self._listener is None:
            return
        self.loop.unwatch(self._listener.fileno())
        self._listener.close()
        self._listener = None
        try:
            os.unlink(self._path(p.MONITOR_SOCKET))
        except FileNotFoundError:
            pass

    def close(self) -> bool:
        """When the loop has ended: closes what is still open. True if all went as it should, to the end."""
        self._making.close()
        wire.close_all([fd for held in self._held.values() for fd in held])
        if self._netns is not None:
            os.close(self._netns)
        self.loop.close()
        return self._exited is not None and not self._noted and not _has_children()

    # --- log ---

    def _write_log(self, stream: str, data: bytes, time_ns: int) -> None:
        if self._log is None:
            return
        try:
            self._log.write(stream, data, time_ns)
        except OSError as error:
            if not self._lost:
                self.note(error)
            self._lost += len(data)

    def _close_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            self._guarded(log.close, None)
        if self._lost:
            self.note(Internal(f"{self._lost} bytes of output could not be logged"))
            self._lost = 0

    def _guarded(self, call: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return call()
        except Exception as error:
            self.note(error)
            return otherwise

    def note(self, error: BaseException) -> None:
        """Appends what went wrong to `monitor.log`."""
        import traceback

        self._noted = True
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + "".join(traceback.format_exception(error))
        try:
            with open(self._path(LOG_FILE), "a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            pass


# One for all monitors, made in the launcher: a fork pays for each object that it touches.
_HANDLERS: dict[type, Handler] = {
    p.Start: Monitor._start,
    p.Abort: Monitor._give_up,
    p.Hold: Monitor._hold,
    p.Unhold: Monitor._unhold,
    p.Attach: Monitor._attach,
    p.Signal: Monitor._signal,
    p.Resize: Monitor._resize,
    p.ExpectExec: Monitor._expect_exec,
    p.StartExec: Monitor._start_exec,
    p.Pause: Monitor._pause,
    p.Resume: Monitor._resume,
    p.Update: Monitor._update,
    p.GetStats: Monitor._stats,
    p.GetProcesses: Monitor._processes,
}


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _write_durably(path: str, data: bytes) -> None:
    temporary = path + ".tmp"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
