"""What signatures say: cosign's payload (its specs/SIGNATURE_SPEC.md) and Sigstore's bundles (sigstore_bundle.proto).

Everything here is data of strangers, decoded and looked at; no signature is verified here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
"""Annotation of a payload's descriptor: the signature, in base64."""
CERTIFICATE = "dev.sigstore.cosign/certificate"
LOG_ENTRY = "dev.sigstore.cosign/bundle"
TIMESTAMP = "dev.sigstore.cosign/rfc3161timestamp"
SIGNATURE_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
"""Artifact type of a signature with such payloads that is found by its subject."""
BUNDLE = "application/vnd.dev.sigstore.bundle"
"""How the media types of all versions of bundles begin."""
COSIGN_TYPE = "cosign container image signature"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
"""Predicate type of the statement that is a signature of an image; others say something about it."""

UNCHECKED_LOG = "its entry in a transparency log was not checked"
UNCHECKED_TIME = "its timestamp was not checked"


class BadSignatureError(Exception):
    """It is not what it should be; the text tells a person why."""


class Bundle(msgspec.Struct, frozen=True):
    """A bundle, taken apart."""

    signature: bytes
    payload: bytes | None
    """What is signed, as a DSSE envelope has it; None: the manifest of the image is."""
    payload_type: str
    artifact_digest: bytes
    """SHA-256 that a message signature says the manifest has; empty if it does not say."""
    keyless: bool
    """It has a certificate in place of a key."""
    notes: tuple[str, ...]

    def signed(self) -> bytes:
        """The bytes that the envelope's signature is over (DSSE, protocol.md: PAE)."""
        assert self.payload is not None
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)


def payload_identity(payload: bytes, digest: str) -> str:
    """The repository that a payload of cosign's is for, "" if it names none. BadSignatureError if it is another's."""
    document = _decoded(payload, "its payload")
    critical = _part(document, "critical", "its payload")
    kind = _text(critical, "type", "its payload")
    if kind != COSIGN_TYPE:
        raise BadSignatureError(f'its payload is of the type "{kind}"')
    signed = _text(_part(critical, "image", "its payload"), "docker-manifest-digest", "its payload")
    if signed != digest:
        raise BadSignatureError(f"it is for another image, {signed}")
    return _text(_part(critical, "identity", "its payload"), "docker-reference", "its payload")


def check_statement(payload: bytes, payload_type: str, digest: str) -> None:
    """BadSignatureError unless it is a statement that the image of that digest is signed."""
    if payload_type != IN_TOTO:
        raise BadSignatureError(f'its payload is of the type "{payload_type}"')
    statement = _decoded(payload, "its statement")
    if statement.get("_type") not in STATEMENTS:
        raise BadSignatureError(f'its statement is of the type "{statement.get("_type")}"')
    if statement.get("predicateType") != SIGN_PREDICATE:
        raise BadSignatureError(f"it is an attestation ({statement.get('predicateType')}), which signs no image")
    subjects = statement.get("subject")
    algorithm, _, value = digest.partition(":")
    for subject in subjects if isinstance(subjects, list) else ():
        known = subject.get("digest") if isinstance(subject, dict) else None
        if isinstance(known, dict) and known.get(algorithm) == value:
            return
    raise BadSignatureError("it is for another image")


def read_bundle(content: bytes) -> Bundle:
    """BadSignatureError if it is damaged, or of a kind that is not known."""
    document = _decoded(content, "the bundle")
    if not str(document.get("mediaType", "")).startswith(BUNDLE):
        raise BadSignatureError(f'the bundle is of the type "{document.get("mediaType")}"')
    material = _part(document, "verificationMaterial", "the bundle")
    keyless = any(material.get(name) for name in ("certificate", "x509CertificateChain"))
    notes = [UNCHECKED_LOG] if material.get("tlogEntries") else []
    times = material.get("timestampVerificationData")
    notes += [UNCHECKED_TIME] if isinstance(times, dict) and times.get("rfc3161Timestamps") else []
    if "dsseEnvelope" in document:
        return _envelope(_part(document, "dsseEnvelope", "the bundle"), material, keyless, tuple(notes))
    message = _part(document, "messageSignature", "the bundle")
    known = message.get("messageDigest")
    artifact = b""
    if isinstance(known, dict) and known.get("algorithm") == "SHA2_256":
        artifact = decoded_base64(_text(known, "digest", "the bundle"), "the bundle's digest")
    signature = decoded_base64(_text(message, "signature", "the bundle"), "the bundle's signature")
    return Bundle(signature, None, "", artifact, keyless, tuple(notes))


def _envelope(
    envelope: Mapping[str, Any], material: Mapping[str, Any], keyless: bool, notes: tuple[str, ...]
) -> Bundle:
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise BadSignatureError("its envelope has not exactly one signature")
    key = material.get("publicKey")
    hint = str(key.get("hint", "")) if isinstance(key, dict) else ""
    named = str(signatures[0].get("keyid") or "")
    if hint and named and hint != named:
        raise BadSignatureError("the bundle and its envelope name different keys")
    return Bundle(
        signature=decoded_base64(_text(signatures[0], "sig", "its envelope"), "the envelope's signature"),
        payload=decoded_base64(_text(envelope, "payload", "its envelope"), "the envelope's payload"),
        payload_type=_text(envelope, "payloadType", "its envelope"),
        artifact_digest=b"",
        keyless=keyless,
        notes=notes,
    )


def decoded_base64(text: str, what: str) -> bytes:
    """BadSignatureError says that `what` is damaged."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignatureError(f"{what} is not in base64") from error


def _decoded(content: bytes, what: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSignatureError(f"{what} is damaged") from error


def _member(document: Mapping[str, Any], name: str, what: str) -> Any:
    """A member, by its name in any case: earlier versions of cosign began it with a capital."""
    found: Sequence[Any] = [value for key, value in document.items() if key.lower() == name.lower()]
    if len(found) > 1:
        raise BadSignatureError(f'{what} has "{name}" twice')
    return found[0] if found else None


def _part(document: Mapping[str, Any], name: str, what: str) -> dict[str, Any]:
    value = _member(document, name, what)
    if not isinstance(value, dict):
        raise BadSignatureError(f'{what} has no "{name}"')
    return value


def _text(document: Mapping[str, Any], name: str, what: str) -> str:
    value = _member(document, name, what)
    if not isinstance(value, str):
        raise BadSignatureError(f'{what} has no "{name}"')
    return value
