"""Finds the signatures of an image in its repository, and says what each is worth. Nothing else is asked: no log, no
authority. Imported only where signatures are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatchcase

import msgspec

from hooper.api.errors import DataLoss, HooperError, InvalidArgument, NotFound
from hooper.api.manifests import NO_JSON
from hooper.api.policy import Finding, Origin, PolicyServices
from hooper.api.reference import Reference
from hooper.api.registry import Descriptor, Manifest
from hooper_policy_rules import statements
from hooper_policy_rules.keys import Key
from hooper_policy_rules.statements import BadSignatureError

_MOST = 100
"""Signatures of one image that are looked at: a repository may be full of others' junk."""
_PAYLOAD_MAX = 1 << 20
_BUNDLE_MAX = 8 << 20


class _Layers(msgspec.Struct, rename="camel"):
    """What matters of a manifest with signatures."""

    layers: list[Descriptor] = []
    artifact_type: str = ""


class Verifier:
    """Verifies by some keys. `identities`: patterns of the repositories that a signature may be for; none: its own."""

    def __init__(self, keys: Sequence[Key], identities: Sequence[str] = ()) -> None:
        self._keys, self._identities = keys, identities

    async def findings(self, origin: Origin, services: PolicyServices) -> AsyncIterator[Finding]:
        """Every signature of the image, of its own manifest and of the index that it is in, one after the other.

        Errors are the registry's; what is wrong with one signature is in its finding.
        """
        count = 0
        for digest in origin.digests:
            async for finding in self._of_digest(origin, digest, services):
                yield finding
                count += 1
                if count >= _MOST:
                    return

    async def _of_digest(self, origin: Origin, digest: str, services: PolicyServices) -> AsyncIterator[Finding]:
        tag = f"{digest.replace(':', '-')}.sig"
        try:
            manifest = await services.manifest(origin, tag)
        except NotFound:
            manifest = None
        if manifest is not None:
            async for finding in self._of_layers(origin, digest, manifest, f"the tag {tag}", services):
                yield finding
        for entry in await services.referrers(origin, digest):
            if (
                entry.artifact_type.startswith(statements.BUNDLE)
                or entry.artifact_type == statements.SIGNATURE_ARTIFACT
            ):
                where = f"the referrer {entry.digest}"
                try:
                    manifest = await services.manifest(origin, entry.digest)
                except (NotFound, DataLoss) as error:
                    yield Finding(where, False, error.what)
                    continue
                async for finding in self._of_layers(origin, digest, manifest, where, services):
                    yield finding

    async def _of_layers(
        self, origin: Origin, digest: str, manifest: Manifest, where: str, services: PolicyServices
    ) -> AsyncIterator[Finding]:
        try:
            layers = msgspec.json.decode(manifest.content, type=_Layers).layers
        except NO_JSON:
            yield Finding(where, False, "its manifest is damaged")
            return
        for number, layer in enumerate(layers[:_MOST], 1):
            shown = f"{where}, number {number}" if len(layers) > 1 else where
            bundled = layer.media_type.startswith(statements.BUNDLE)
            if not bundled and layer.media_type != statements.SIMPLE_SIGNING:
                continue
            try:
                content = await services.blob(origin, layer, _BUNDLE_MAX if bundled else _PAYLOAD_MAX)
                if bundled:
                    yield await self._bundle(origin, digest, content, shown, services)
                else:
                    yield self._simple(origin, digest, layer, content, shown)
            except BadSignatureError as error:
                yield Finding(shown, False, str(error))
            except (NotFound, DataLoss) as error:
                yield Finding(shown, False, error.what)

    # --- the two kinds --------------------------------------------------------------------------------

    def _simple(self, origin: Origin, digest: str, layer: Descriptor, payload: bytes, shown: str) -> Finding:
        annotations = layer.annotations or {}
        text = annotations.get(statements.SIGNATURE, "")
        if not text:
            raise BadSignatureError("it has no signature")
        signature = statements.decoded_base64(text, "its signature")
        key = self._key(signature, payload, keyless=statements.CERTIFICATE in annotations)
        identity = statements.payload_identity(payload, digest)
        self._check_identity(origin, identity)
        notes = [statements.UNCHECKED_LOG] if statements.LOG_ENTRY in annotations else []
        notes += [statements.UNCHECKED_TIME] if statements.TIMESTAMP in annotations else []
        return Finding(shown, True, key=key.fingerprint, digest=digest, identity=identity, notes=tuple(notes))

    async def _bundle(
        self, origin: Origin, digest: str, content: bytes, shown: str, services: PolicyServices
    ) -> Finding:
        bundle = statements.read_bundle(content)
        if bundle.payload is not None:
            key = self._key(bundle.signature, bundle.signed(), keyless=bundle.keyless)
            statements.check_statement(bundle.payload, bundle.payload_type, digest)
        else:
            signed = (await services.manifest(origin, digest)).content
            if bundle.artifact_digest and bundle.artifact_digest != hashlib.sha256(signed).digest():
                raise BadSignatureError("it is for another image")
            key = self._key(bundle.signature, signed, keyless=bundle.keyless)
        if self._identities:
            raise BadSignatureError("it names no repository, as bundles do not, but one is asked for")
        return Finding(shown, True, key=key.fingerprint, digest=digest, notes=bundle.notes)

    # --- what is common -------------------------------------------------------------------------------

    def _key(self, signature: bytes, data: bytes, *, keyless: bool) -> Key:
        for key in self._keys:
            if key.verifies(signature, data):
                return key
        if keyless:
            raise BadSignatureError("it was made with a certificate, not with a key that is trusted here")
        raise BadSignatureError("it was made with another key, or what it signs was changed")

    def _check_identity(self, origin: Origin, identity: str) -> None:
        named = _normalised(identity) if identity else ""
        if not self._identities:
            if named in ("", origin.name):
                return
            raise BadSignatureError(f"it is for another repository, {identity}")
        if not any(fnmatchcase(name, pattern) for name in (identity, named) for pattern in self._identities if name):
            raise BadSignatureError(f'it is for the repository "{identity}", which is not among the identities')


def _normalised(identity: str) -> str:
    try:
        return Reference.parse(identity).name
    except InvalidArgument:
        return identity


def unreachable(error: HooperError) -> str:
    """Why signatures could not be looked at."""
    return f"{error.what}: {error.why}" if error.why else error.what
