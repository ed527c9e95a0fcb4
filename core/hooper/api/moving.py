"""Moving containers between engines: what the two sides and the client between them say to each other.

A container travels as one stream (or file): a *manifest* that describes it, then its *sections* (layers, the writable
layer, volumes, logs), then an end that tells the digest of each. `docs/adr/0004-moving.md` has the states and why no
break leaves it on two sides or on none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import msgspec

from hooper.api.model import Container, Volume
from hooper.api.network import Network

FORMAT = "hooper-container"
VERSION = 1
"""Of the stream. A reader refuses newer ones."""


class LayerPart(msgspec.Struct, kw_only=True):
    """One layer of the image, from the lowest on. Digests are "sha256:…"."""

    diff_id: str
    chain_id: str
    size: int = 0
    """Bytes that it is in a stream: of the compressed blob if the sender has one, else of the tar."""


class ImagePart(msgspec.Struct, kw_only=True):
    id: str
    config: bytes
    """Byte for byte: its digest is the id."""
    tag: str = ""
    """The full reference that the container was made with, if it still is the image's."""
    layers: list[LayerPart] = []


class VolumePart(msgspec.Struct, kw_only=True):
    """A volume that the container mounts."""

    volume: Volume
    size: int = 0
    """Bytes allocated on the source's disk."""
    shared_with: list[str] = []
    """Names of other containers there that use it."""


class NetworkPart(msgspec.Struct, kw_only=True):
    network: Network
    predefined: bool = False
    """Every engine has it (bridge, host, none)."""


class Section(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A part of the stream after the manifest.

    Kinds: "blob" (a compressed layer, `digest` its digest and `size` its bytes), "layer" (a layer as a canonical
    tar), both with `diff_id` and `chain_id`; "container" (the writable layer, as a layer tar); "volume" (a tar of the
    volume `name`); "state" (a tar of the engine's files of the container: logs). A reader refuses kinds that it does
    not know.
    """

    kind: str
    name: str = ""
    diff_id: str = ""
    chain_id: str = ""
    digest: str = ""
    media_type: str = ""
    size: int = 0


class Manifest(msgspec.Struct, kw_only=True):
    format: str = FORMAT
    version: int = VERSION
    hooper: str = ""
    """Version of the hooper that wrote it."""
    created: str = ""
    engine: str = ""
    """Id of the engine that it comes from."""
    running: bool = False
    """It is to be started where it arrives."""
    container: Container
    image: ImagePart
    networks: list[NetworkPart] = []
    volumes: list[VolumePart] = []
    sections: list[Section] = []


class SectionEnd(msgspec.Struct, kw_only=True):
    digest: str
    """Of all bytes of the section."""
    size: int


class End(msgspec.Struct, kw_only=True):
    """What closes a stream. Without it nothing of the stream counts."""

    manifest: str
    """Digest of the manifest's bytes."""
    sections: list[SectionEnd] = []


class Plan(msgspec.Struct, kw_only=True):
    """What a move of a container would carry; nothing has been touched for it."""

    manifest: Manifest
    """Without sections."""
    container_size: int = 0
    """Bytes on disk of the writable layer."""
    state_size: int = 0
    binds: list[str] = []
    """Directories of the host that it mounts: they are not carried."""
    moving: str = ""
    """The id of a transfer of it that has not come to its end."""
    moving_to: str = ""
    moving_engine: str = ""
    moving_sealed: bool = False


VolumeChoice = Literal["error", "reuse", "replace"]
NetworkChoice = Literal["create", "require", "skip"]


class Wishes(msgspec.Struct, kw_only=True):
    """How the receiving side is to deal with what it has already."""

    name: str = ""
    """"" keeps the container's own."""
    volumes: VolumeChoice = "error"
    """A volume of that name that is there and not empty: refuse, mount it as it is, or replace its content."""
    networks: NetworkChoice = "create"
    """A user-defined network that is missing: make it, refuse, or leave it out."""
    allow_binds: bool = False


class Offer(msgspec.Struct, kw_only=True):
    manifest: Manifest
    wishes: Wishes = msgspec.field(default_factory=Wishes)
    size: int = 0
    """Bytes on disk of all but the image."""


class Verdict(msgspec.Struct, kw_only=True):
    """What the receiving side would do."""

    engine: str
    layers: list[str] = []
    """Chain ids of the layers that it lacks."""
    volumes: dict[str, str] = {}
    """By name: new, empty (there, without content), reuse or replace."""
    networks: dict[str, str] = {}
    """By name: there, create or skip."""
    warnings: list[str] = []


class Begin(msgspec.Struct, kw_only=True):
    """What the client asks of the source."""

    transfer: str
    """32 hex digits, chosen at random."""
    to: str
    """The target's address, for people and for questions about the outcome."""
    engine: str
    """The target's id."""
    layers: list[str] = []
    """Chain ids of the layers to carry."""
    without_volumes: list[str] = []
    """Names of volumes whose content stays here."""
    stop_timeout: int | None = None
    """Seconds; None is the container's own."""
    idle_seconds: float = 60.0
    """If the client is silent for so long before it seals, the move is undone."""


class Begun(msgspec.Struct, kw_only=True):
    id: str
    was_running: bool


class Arrived(msgspec.Struct, kw_only=True):
    id: str
    name: str
    warnings: list[str] = []


class TransferState(msgspec.Struct, kw_only=True):
    engine: str
    state: str
    """receiving, received, committing, committed, or "" for a transfer that this engine does not know: one that
    can never be committed here any more."""
    container: str = ""


class Moves(ABC):
    """The use cases of both sides."""

    @abstractmethod
    async def engine_id(self) -> str: ...

    # --- the source

    @abstractmethod
    async def plan(self, name: str) -> Plan: ...

    @abstractmethod
    async def save(self, name: str, output: int) -> None:
        """Writes the container with all of its image; one that runs is paused meanwhile."""

    @abstractmethod
    async def begin(self, name: str, request: Begin) -> Begun:
        """Records the move, then stops the container. From here on nothing but the move changes it."""

    @abstractmethod
    async def send(self, name: str, transfer: str, output: int) -> None:
        """Writes the stream. If it breaks off, the move is undone."""

    @abstractmethod
    async def keep(self, name: str, transfer: str) -> None:
        """The client is still there."""

    @abstractmethod
    async def seal(self, name: str, transfer: str) -> None:
        """From here on this side does not undo the move by itself: a commit may be on its way."""

    @abstractmethod
    async def confirm(self, name: str, transfer: str) -> None:
        """The other side has it: the container goes, and with it the volumes that were carried."""

    @abstractmethod
    async def undo(self, name: str, transfer: str) -> bool:
        """The other side never will have it: the container is free again; True if it was started again."""

    # --- the target

    @abstractmethod
    async def check(self, offer: Offer) -> Verdict:
        """Conflict, Unsupported and the like say why the container cannot come here."""

    @abstractmethod
    async def receive(self, transfer: str, wishes: Wishes, archive: int, *, keep_seconds: float) -> None:
        """Takes the stream; the container stays invisible, and waits so long for its commit.

        Whatever fails, nothing is left of it.
        """

    @abstractmethod
    async def commit(self, transfer: str) -> Arrived:
        """Makes the container this engine's own, and starts it if it ran. If that fails, nothing is left of it.

        Asked again after it was committed, it answers the same.
        """

    @abstractmethod
    async def state(self, transfer: str) -> TransferState: ...

    @abstractmethod
    async def abandon(self, transfer: str) -> TransferState:
        """Drops what was received, unless it is committed or about to be: the answer tells which."""

    @abstractmethod
    async def forget(self, transfer: str) -> None:
        """The source has removed its side: nobody will ask about this transfer any more."""

    @abstractmethod
    async def load(self, wishes: Wishes, archive: int) -> Arrived:
        """Takes a container from a file. Nothing is left of one that is damaged or refused."""
