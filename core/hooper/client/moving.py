"""A container carried from one engine to another by the client between them. See docs/adr/0004-moving.md.

The target decides: once it has committed a transfer the container is its own, before that it never is. The source
gives the container up, or takes it back, only when that is known.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hooper.api.errors import Conflict, HooperError, Unsupported
from hooper.client.api import ApiClient
from hooper.client.errors import ApiError, ConnectionFailed

_PAUSE = 0.25
_KEEP = 5.0
Json = dict[str, Any]


class Mover:
    """Moves containers from `source` to `target`.

    `wishes` are those of `hooper.api.moving.Wishes`. `meter` is told how many bytes have passed, `say` what happens.
    """

    idle = 60.0
    """Seconds of silence after which the source takes this client for dead."""
    patience = 30.0
    """Seconds for which a daemon that does not answer is asked again."""

    def __init__(
        self,
        source: ApiClient,
        target: ApiClient,
        wishes: Mapping[str, Any],
        *,
        say: Callable[[str], None],
        meter: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.source, self.target, self.wishes = source, target, dict(wishes)
        self._say, self._meter = say, meter
        self._engine = ""

    # --- before anything is touched ------------------------------------------------------------------

    def prepare(self, name: str) -> tuple[Json, Json]:
        """(plan, verdict): what would be carried, and what the target says to it. Errors say why it cannot be."""
        about(self.source)
        self._engine = str(about(self.target)["engine"])
        plan: Json = self.source.get(f"/hooper/containers/{name}/plan")
        if plan["moving_sealed"]:
            plan = self._resume(name, plan)
        offer = {"manifest": plan["manifest"], "wishes": self.wishes, "size": own_size(plan)}
        return plan, self.target.post("/hooper/containers/check", offer)

    def _resume(self, name: str, plan: Json) -> Json:
        """Finds out what became of an earlier move."""
        if plan["moving_engine"] != self._engine:
            raise Conflict(
                f"container {name} is on its way to {plan['moving_to']}",
                "whether it has arrived there is not known here",
                f"Ask there first: hooper container move {name} {plan['moving_to']}",
            )
        if self.settle(name, plan["moving"], sent=True):
            raise AlreadyMoved(f"container {name} had arrived already, and is gone here now")
        renewed: Json = self.source.get(f"/hooper/containers/{name}/plan")
        return renewed

    # --- the move ------------------------------------------------------------------------------------

    def move(self, plan: Json, verdict: Json, *, stop_timeout: int | None = None) -> Json:
        """Moves what `prepare` found; the target's answer: {id, name, warnings}.

        An error leaves the container as it was at the source, unless it says otherwise.
        """
        name, transfer = str(plan["manifest"]["container"]["Id"]), os.urandom(16).hex()
        sent = False
        try:
            self._begin(name, transfer, verdict, stop_timeout)
            self._stream(name, transfer)
            self.source.post(f"/hooper/containers/{name}/move/seal", query={"transfer": transfer})
            sent = True
            arrived = self._commit(transfer)
        except BaseException as error:
            self._give_up(name, transfer, sent, error)
            raise
        self._finish(name, transfer)
        return arrived

    def _begin(self, name: str, transfer: str, verdict: Json, stop_timeout: int | None) -> None:
        request = {
            "transfer": transfer,
            "to": str(self.target.address),
            "engine": self._engine,
            "layers": verdict["layers"],
            "without_volumes": [volume for volume, place in verdict["volumes"].items() if place == "reuse"],
            "stop_timeout": stop_timeout,
            "idle_seconds": self.idle,
        }
        begun = self.source.post(f"/hooper/containers/{name}/move", request)
        if begun["was_running"]:
            self._say("stopped here")

    def _stream(self, name: str, transfer: str) -> None:
        body = self.source.stream("POST", f"/hooper/containers/{name}/move/send", {"transfer": transfer})
        with _Keeper(self.source, name, transfer) as keeper:

            def counted() -> Iterator[bytes]:
                for part in body.parts():
                    self._meter(len(part))
                    yield part
                keeper.start()

            try:
                self.target.stream(
                    "POST",
                    f"/hooper/transfers/{transfer}/receive",
                    {**self.wishes, "keep": int(self.idle + 2 * self.patience)},
                    body=counted(),
                    headers={"Content-Type": "application/x-tar"},
                ).close()
            finally:
                body.close()
        self._say("all of it is there")

    def _commit(self, transfer: str) -> Json:
        """Asks until it is known: a commit whose answer was lost is asked for again."""
        arrived: Json = self._patiently(lambda: self.target.post(f"/hooper/transfers/{transfer}/commit"))
        return arrived

    def _finish(self, name: str, transfer: str) -> None:
        """The target has it: the source learns of it, then the target that nobody will ask again."""
        try:
            self._patiently(
                lambda: self.source.post(f"/hooper/containers/{name}/move/confirm", query={"transfer": transfer})
            )
        except ApiError as error:
            if error.status != 404:  # it is gone: an earlier question was heard, and its answer lost
                raise
        try:
            self.target.post(f"/hooper/transfers/{transfer}/forget")
        except HooperError:
            self._say("the target keeps a note of the move: it could not be told that it is over")

    # --- when it breaks off --------------------------------------------------------------------------

    def _give_up(self, name: str, transfer: str, sent: bool, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._say("interrupted: finding out where the container is")
        try:
            arrived = self.settle(name, transfer, sent=sent)
        except HooperError as failure:
            raise InDoubt(
                f"the move of container {name[:12]} broke off, and where it is cannot be asked now",
                f"{_first_line(error)}; then {_first_line(failure)}",
                f"It is whole on one side. Ask again: hooper container move {name[:12]} {self.target.address}",
            ) from error
        if arrived:
            raise AlreadyMoved(f"container {name[:12]} has arrived, and is gone here") from error

    def settle(self, name: str, transfer: str, *, sent: bool) -> bool:
        """Brings a move to its end, whatever state it is in; True if the target has the container.

        `sent`: a commit may have been asked for. Without that the target cannot have it, and need not answer.
        """
        try:
            answer = self._patiently(lambda: self._abandon(transfer), patient=sent)
        except ConnectionFailed:
            if sent:
                raise
            answer = {"state": ""}
        if answer["state"] == "committed":
            self._finish(name, transfer)
            return True
        self._take_back(name, transfer)
        return False

    def _abandon(self, transfer: str) -> Json:
        """Drops the transfer at the target unless it is committed; waits while that is being decided."""
        while True:
            answer: Json = self.target.delete(f"/hooper/transfers/{transfer}")
            if self._engine and answer["engine"] != self._engine:
                raise Conflict(
                    f"another engine answers at {self.target.address} now",
                    "it cannot know of this move",
                    "Give the address of the engine that the container was moved to.",
                )
            if answer["state"] != "committing":
                return answer
            time.sleep(_PAUSE)

    def _take_back(self, name: str, transfer: str) -> None:
        try:
            answer = self._patiently(
                lambda: self.source.post(f"/hooper/containers/{name}/move/undo", query={"transfer": transfer})
            )
        except ApiError as error:
            if error.status not in (404, 409):  # it was undone before
                raise
            return
        if answer and answer.get("started"):
            self._say("it runs here again")

    def _patiently(self, ask: Callable[[], Any], *, patient: bool = True) -> Any:
        """Asks again while nobody answers. ConnectionFailed after `patience` seconds, or at once."""
        deadline = time.monotonic() + (self.patience if patient else 0.0)
        while True:
            try:
                return ask()
            except ConnectionFailed:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE)


class InDoubt(HooperError):
    """Where the container is could not be found out."""


class AlreadyMoved(HooperError):
    """The container is at the target, though what was asked for did not go as it should."""


class _Keeper:
    """Tells the source that the client is still there, while the target writes what it got to its disk."""

    def __init__(self, source: ApiClient, name: str, transfer: str) -> None:
        self._source, self._name, self._transfer = source.sibling(), name, transfer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(_KEEP):
            try:
                self._source.post(f"/hooper/containers/{self._name}/move/keep", query={"transfer": self._transfer})
            except HooperError:
                return  # sealing will say the same, and louder

    def __enter__(self) -> _Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._source.close()


def about(client: ApiClient) -> Json:
    """The engine's id and the version of the format. Unsupported for a daemon that is no hooper."""
    try:
        found: Json = client.get("/hooper/moving")
    except ApiError as error:
        if error.status != 404:
            raise
        raise Unsupported(
            f"the daemon at {client.address} cannot move containers",
            "it is no hooper, or an older one",
            "Run a hooper daemon there; to carry files alone to another engine use `hooper commit` and `hooper save`.",
        ) from None
    return found


def take_container_back(source: ApiClient, name: str) -> None:
    """Ends a move without asking the target: for one that is lost with its host. Conflict if none is under way."""
    about(source)
    plan: Json = source.get(f"/hooper/containers/{name}/plan")
    if not plan["moving"]:
        raise Conflict(f"container {name} is not being moved", remedy="There is nothing to take back.")
    source.post(f"/hooper/containers/{name}/move/undo", query={"transfer": plan["moving"]})


def own_size(plan: Mapping[str, Any]) -> int:
    """Bytes on disk of what belongs to the container alone."""
    volumes = sum(part["size"] for part in plan["manifest"]["volumes"])
    return int(plan["container_size"] + plan["state_size"] + volumes)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
