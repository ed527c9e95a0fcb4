"""Outputs: what becomes of a solved build (--output).

An image goes into the store, under its names, and to a registry if it is pushed. All others are streams of the client's
session: the file system as a tar (local, which the client unpacks, and tar), or the image as an archive (oci, docker).
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from hooper.api.build_events import Exported, Pulling
from hooper.api.build_session import BuildSession
from hooper.api.builder import BuildRequest, OutputSpec, Progress
from hooper.api.driver import Workers
from hooper.api.errors import HooperError, InvalidArgument, Unavailable
from hooper.api.manifests import host_architecture
from hooper.api.model import Image
from hooper.api.reference import Reference
from hooper.api.registry import Manifest
from hooper.engine.archives import Content, Form
from hooper.engine.build_layers import BuildLayers

if TYPE_CHECKING:
    from hooper.engine.images import ImageService

ANNOTATION = "annotation."
"""Begins an attribute that is an annotation of the manifest."""
_ARCHIVE = ("name", "dest", "tar", "compression", "rewrite-timestamp")
_KNOWN = {
    "image": ("name", "push", "rewrite-timestamp"),
    "registry": ("name", "push", "rewrite-timestamp"),
    "oci": _ARCHIVE,
    "docker": _ARCHIVE,
    "local": ("dest", "rewrite-timestamp"),
    "tar": ("dest", "rewrite-timestamp"),
}
"""Attributes by type. `dest` and `tar` concern the client alone; times are rewritten whenever there is an epoch."""
_COMPRESSIONS = ("uncompressed", "gzip")
_ANSWER = 4096
"""Bytes of what a client says that could not keep its output."""
_PATIENCE = 1.0
"""Seconds to hear why a client does not take its output."""


def check_outputs(outputs: Sequence[OutputSpec], tags: Sequence[str] = ()) -> None:
    """InvalidArgument for an output that cannot be: call it before any work is done."""
    for output in outputs:
        known = _KNOWN.get(output.type)
        if known is None:
            raise InvalidArgument(
                f'there is no output type "{output.type}"', remedy=f"There are: {', '.join(sorted(_KNOWN))}."
            )
        for name in output.attrs:
            if name not in known and not name.startswith(ANNOTATION):
                raise InvalidArgument(
                    f'output type={output.type} has no attribute "{name}"',
                    remedy=f"There are: {', '.join(sorted(known))}, annotation.KEY.",
                )
        if output.attrs.get("compression", "gzip") not in _COMPRESSIONS:
            raise InvalidArgument(
                f'cannot compress layers with "{output.attrs["compression"]}"',
                remedy=f"There are: {', '.join(_COMPRESSIONS)}.",
            )
        if _pushed(output) and not references_of(output, tags):
            raise InvalidArgument("cannot push an image without a name", remedy="Give it one with -t or name=.")


def references_of(output: OutputSpec, tags: Sequence[str]) -> list[Reference]:
    """The tags of the build and the output's own names, each once. InvalidArgument for what is no tag."""
    found = []
    for text in [*tags, *filter(None, output.attrs.get("name", "").split(","))]:
        reference = Reference.parse(text).with_default_tag()
        if reference.digest:
            raise InvalidArgument(f'cannot tag the image as "{text}"', "that names a digest", "Give NAME[:TAG].")
        if reference not in found:
            found.append(reference)
    return found


def _pushed(output: OutputSpec) -> bool:
    return output.attrs.get("push", str(output.type == "registry")).lower() in ("1", "true", "")


class Exporter:
    """One a build."""

    def __init__(self, images: ImageService, layers: BuildLayers, workers: Workers) -> None:
        self._images, self._layers, self._workers = images, layers, workers

    async def export(
        self,
        output: OutputSpec,
        image: Image,
        chain: str,
        *,
        tags: Sequence[str],
        session: BuildSession,
        index: int,
        request: BuildRequest,
        progress: Progress,
    ) -> Exported:
        """Carries out one output; the event is the caller's to send. Nothing is left of one that fails, but an image
        that could not be pushed is stored. Unavailable if the client does not take it."""
        check_outputs([output], tags)
        if not image.architecture:
            image = msgspec.structs.replace(image, architecture=host_architecture())
        if output.type in ("image", "registry"):
            return await self._image(output, image, chain, tags, request, progress)
        async with client_stream(session, "output", index, f"output {output.type}") as descriptor:
            if output.type in ("oci", "docker"):
                return await self._archive(output, image, chain, references_of(output, tags), request, descriptor)
            mounts = msgspec.to_builtins(await self._layers.view(chain))
            arguments = {"mounts": mounts, "epoch": request.source_date_epoch}
            await self._workers.run("hooper.content.exporting:export", arguments, [descriptor])
            return Exported(type=output.type, at=time.time_ns())

    # --- images ---------------------------------------------------------------------------------------

    async def _image(
        self,
        output: OutputSpec,
        image: Image,
        chain: str,
        tags: Sequence[str],
        request: BuildRequest,
        progress: Progress,
    ) -> Exported:
        references = references_of(output, tags)
        annotations = _annotations(output, request)
        image_id = await self._images.create_image(image, chain, [str(reference) for reference in references])
        digest = ""
        with self._images.layers.lease() as lease:
            lease.add("blob", image_id)
            manifest = None
            if annotations and references:
                # The image's configuration has no room for them: they are kept as the manifest to be pushed.
                manifest = await self._images.pusher.make(image_id, self._images.layers.ancestry(chain), annotations)
                lease.add("blob", manifest.descriptor.digest)
                for reference in references:
                    await self._images.pusher.record(reference, image_id, manifest)
            if _pushed(output):
                for reference in references:
                    digest = await self._push(reference, manifest, chain, request, progress)
        names = tuple(reference.familiar for reference in references)
        return Exported(type="image", image_id=image_id, names=names, digest=digest, at=time.time_ns())

    async def _push(
        self,
        reference: Reference,
        manifest: Manifest | None,
        chain: str,
        request: BuildRequest,
        progress: Progress,
    ) -> str:
        """The digest of the manifest."""
        digest = manifest.descriptor.digest if manifest else ""

        async def sink(message: dict[str, Any]) -> None:
            nonlocal digest
            digest = message.get("aux", {}).get("Digest", digest)
            await progress.event(Pulling(message=message))

        credentials = request.credentials.get(reference.host)
        if manifest is None:
            await self._images.push(str(reference), sink, credentials=credentials)
        else:
            layers = self._images.layers.ancestry(chain)
            await self._images.pusher.push_made(reference, manifest, layers, sink, credentials)
        return digest

    async def _archive(
        self,
        output: OutputSpec,
        image: Image,
        chain: str,
        references: Sequence[Reference],
        request: BuildRequest,
        descriptor: int,
    ) -> Exported:
        content = Content(
            image,
            msgspec.json.encode(image),
            self._images.layers.ancestry(chain),
            references,
            _annotations(output, request),
        )
        form = Form.GZIP if output.attrs.get("compression") == "gzip" else Form.PLAIN
        digest = await self._images.saver.write([content], descriptor, docker=output.type == "docker", form=form)
        names = tuple(reference.familiar for reference in references)
        return Exported(type=output.type, names=names, digest=digest, at=time.time_ns())


def _annotations(output: OutputSpec, request: BuildRequest) -> dict[str, str]:
    own = {name.removeprefix(ANNOTATION): value for name, value in output.attrs.items() if name.startswith(ANNOTATION)}
    return {**request.annotations, **own}


# --- streams ------------------------------------------------------------------------------------------


@asynccontextmanager
async def client_stream(session: BuildSession, kind: str, index: int, shown: str) -> AsyncIterator[int]:
    """A descriptor to write something for the client to. At the end it waits until the client has kept it.

    Unavailable, with its reason, if it did not. `shown` is what a person calls the stream.
    """
    connection = await session.open(kind, str(index))
    with connection:
        failure: HooperError | None = None
        try:
            connection.setblocking(True)
            async with _ended_with_scope(connection):
                yield connection.fileno()
            connection.shutdown(socket.SHUT_WR)
        except HooperError as error:
            failure = error
        except OSError as error:
            failure = Unavailable("the output was not sent", error.strerror or str(error))
        connection.setblocking(False)
        # Who failed itself closes at once; of whoever did not, nothing is to be waited for.
        with anyio.move_on_after(math.inf if failure is None else _PATIENCE):
            said = await _answer(connection)
            if said:
                failure = Unavailable("the client did not keep it", said, "Check that there is room on its disk.")
    if failure is not None:
        raise type(failure)(f"{shown}: {failure.what}", failure.why, failure.remedy) from failure


@asynccontextmanager
async def _ended_with_scope(connection: socket.socket) -> AsyncIterator[None]:
    """A thread that writes to a client which does not read cannot be cancelled; its connection can be ended."""

    async def end_if_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if not done:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    done, failure = False, None
    async with anyio.create_task_group() as group:
        group.start_soon(end_if_cancelled)
        try:
            yield
        except (HooperError, OSError) as error:  # goes on outside, where no task group wraps it
            failure = error
        done = True
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _answer(connection: socket.socket) -> str:
    """What the client says before it closes: nothing if it has kept the output."""
    said = b""
    try:
        while len(said) < _ANSWER:
            await anyio.wait_readable(connection)
            piece = connection.recv(_ANSWER)
            if not piece:
                break
            said += piece
    except OSError as error:
        return error.strerror or str(error)
    return said.decode(errors="replace").strip()
