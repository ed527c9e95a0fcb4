"""Verification of signatures in cosign's layout and in Sigstore's bundles, from a registry that is a dictionary."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cosign_support import (
    BUNDLE,
    PRIVATE,
    digest_of,
    dsse_bundle,
    message_bundle,
    new_key,
    payload,
    pem,
    sign,
    signature_layer,
    statement,
)
from hooper.api.errors import DataLoss, InvalidArgument, NotFound, Unavailable
from hooper.api.policy import Finding, Origin, PolicyServices
from hooper.api.registry import Descriptor, Manifest
from hooper_policy_rules.keys import Key
from hooper_policy_rules.signatures import Verifier
from hooper_policy_rules.statements import BadSignatureError, payload_identity, read_bundle

MANIFEST = b'{"schemaVersion":2,"note":"the image"}'
DIGEST = digest_of(MANIFEST)
ORIGIN = Origin("registry.example", "team/app", DIGEST, DIGEST, ("1",))
KEY, OTHER = new_key(), new_key()


class Store(PolicyServices):
    """What a registry has. `asked` counts the requests."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {DIGEST: MANIFEST}
        self.blobs: dict[str, bytes] = {}
        self.referring: list[Descriptor] = []

    async def labels(self) -> Mapping[str, str]:
        return {}

    async def manifest(self, origin: Origin, reference: str) -> Manifest:
        if reference not in self.manifests:
            raise NotFound(f"no {reference}")
        content = self.manifests[reference]
        return Manifest(Descriptor("", digest_of(content), len(content)), content)

    async def blob(self, origin: Origin, blob: Descriptor, limit: int) -> bytes:
        content = self.blobs.get(blob.digest)
        if content is None:
            raise NotFound(f"no blob {blob.digest}")
        if digest_of(content) != blob.digest or len(content) > limit:
            raise DataLoss(f"the blob {blob.digest} is damaged")
        return content

    async def referrers(self, origin: Origin, digest: str) -> Sequence[Descriptor]:
        return self.referring if digest == DIGEST else ()

    def tag(self, *layers: dict[str, Any], digest: str = DIGEST) -> None:
        self.manifests[f"{digest.replace(':', '-')}.sig"] = json.dumps({"layers": list(layers)}).encode()

    def signed(self, *signatures: tuple[PRIVATE, bytes]) -> Store:
        """As cosign does."""
        self.blobs |= {digest_of(content): content for _, content in signatures}
        self.tag(*(signature_layer(key, content) for key, content in signatures))
        return self

    def bundled(self, bundle: bytes, artifact: str = BUNDLE) -> Store:
        self.blobs[digest_of(bundle)] = bundle
        layer = {"mediaType": BUNDLE, "digest": digest_of(bundle), "size": len(bundle)}
        manifest = json.dumps({"artifactType": artifact, "layers": [layer]}).encode()
        self.manifests[digest_of(manifest)] = manifest
        self.referring.append(Descriptor("", digest_of(manifest), len(manifest), artifact_type=artifact))
        return self


def findings(
    store: Store, keys: Sequence[PRIVATE] = (KEY,), identities: Sequence[str] = (), origin: Origin = ORIGIN
) -> list[Finding]:
    async def collect() -> list[Finding]:
        verifier = Verifier([Key(pem(key), "a key") for key in keys], identities)
        return [finding async for finding in verifier.findings(origin, store)]

    return anyio.run(collect)


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


GOOD = payload(DIGEST, "registry.example/team/app")


def test_a_signature_of_the_key_is_good() -> None:
    found = only(findings(Store().signed((KEY, GOOD))))
    assert (found.good, found.reason, found.digest) == (True, "", DIGEST)
    assert found.identity == "registry.example/team/app"
    assert found.key == Key(pem(KEY), "").fingerprint
    assert found.notes == ()


def test_no_signature() -> None:
    assert findings(Store()) == []


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        ((OTHER, GOOD), "made with another key"),
        ((KEY, payload("sha256:" + "0" * 64, "registry.example/team/app")), "for another image, sha256:000"),
        ((KEY, payload(DIGEST, "registry.example/other/app")), "for another repository, registry.example/other/app"),
        ((KEY, payload(DIGEST, "elsewhere.example/team/app")), "for another repository"),
        ((KEY, payload(DIGEST, "registry.example/team/app", "atomic container signature")), "of the type"),
        ((KEY, b"{"), "damaged"),
        ((KEY, b"{}"), 'no "critical"'),
    ],
)
def test_what_is_not_good(signed: tuple[PRIVATE, bytes], reason: str) -> None:
    found = only(findings(Store().signed(signed)))
    assert not found.good
    assert reason in found.reason


def test_a_payload_that_was_changed_after_signing() -> None:
    store = Store()
    changed = GOOD.replace(b"null", b'"x"')
    store.blobs[digest_of(changed)] = changed
    layer = signature_layer(KEY, GOOD)
    store.tag({**layer, "digest": digest_of(changed), "size": len(changed)})
    assert "what it signs was changed" in only(findings(store)).reason


def test_a_payload_that_is_not_what_its_digest_says() -> None:
    store = Store().signed((KEY, GOOD))
    store.blobs[digest_of(GOOD)] = GOOD + b" "
    assert "damaged" in only(findings(store)).reason


def test_one_good_signature_among_bad_ones_is_enough_and_the_bad_are_named() -> None:
    found = findings(Store().signed((OTHER, GOOD), (KEY, payload("sha256:1", "")), (KEY, GOOD)))
    assert [finding.good for finding in found] == [False, False, True]
    assert found[0].signature.endswith("number 1")
    assert all(finding.reason for finding in found[:2])


def test_any_of_several_keys_will_do() -> None:
    assert only(findings(Store().signed((OTHER, GOOD)), keys=(KEY, OTHER))).key == Key(pem(OTHER), "").fingerprint


def test_docker_hub_has_several_names() -> None:
    origin = Origin("docker.io", "namespace/image", DIGEST, DIGEST)
    store = Store().signed((KEY, payload(DIGEST, "index.docker.io/namespace/image")))
    assert only(findings(store, origin=origin)).good


def test_a_payload_that_names_no_repository_is_for_every_one() -> None:
    """Earlier versions of cosign wrote it so, with capitals."""
    old = (
        b'{"Critical":{"Identity":{"docker-reference":""},"Image":{"Docker-manifest-digest":"%s"},'
        b'"Type":"cosign container image signature"},"Optional":null}' % DIGEST.encode()
    )
    assert only(findings(Store().signed((KEY, old)))).good
    assert "not among the identities" in only(findings(Store().signed((KEY, old)), identities=["*/team/*"])).reason


def test_identities_take_the_place_of_the_repository() -> None:
    store = Store().signed((KEY, payload(DIGEST, "upstream.example/app")))
    assert not only(findings(store)).good
    assert only(findings(store, identities=["upstream.example/*"])).good
    assert not only(findings(store, identities=["registry.example/*"])).good


def test_the_example_in_cosigns_documentation() -> None:
    text = (
        b'{"critical":{"identity":{"docker-reference":"localhost:5000/tcpconnect"},"image":{"docker-manifest-digest":'
        b'"sha256:7a91c50d922925f152fec96ed1d84b7bc6b2079c169d68826f6cf307f22d40e6"},"type":'
        b'"cosign container image signature"},"optional":null}'
    )
    digest = "sha256:7a91c50d922925f152fec96ed1d84b7bc6b2079c169d68826f6cf307f22d40e6"
    assert payload_identity(text, digest) == "localhost:5000/tcpconnect"
    assert payload(digest, "localhost:5000/tcpconnect") == text
    with pytest.raises(BadSignatureError, match="another image"):
        payload_identity(text, DIGEST)


def test_a_member_twice_is_refused() -> None:
    twice = GOOD.replace(b'{"critical"', b'{"Critical":{},"critical"')
    assert "twice" in only(findings(Store().signed((KEY, twice)))).reason


def test_a_certificate_in_place_of_a_key() -> None:
    store = Store().signed((OTHER, GOOD))
    store.tag(signature_layer(OTHER, GOOD, **{"dev.sigstore.cosign/certificate": "-----BEGIN CERTIFICATE-----"}))
    assert "made with a certificate" in only(findings(store)).reason


def test_it_is_said_that_a_log_is_not_asked() -> None:
    store = Store().signed((KEY, GOOD))
    store.tag(signature_layer(KEY, GOOD, **{"dev.sigstore.cosign/bundle": "{}"}))
    found = only(findings(store))
    assert found.good
    assert found.notes == ("its entry in a transparency log was not checked",)


def test_of_an_index_a_signature_of_the_index_or_of_the_manifest_will_do() -> None:
    other = "sha256:" + "a" * 64
    origin = Origin("registry.example", "team/app", other, DIGEST)
    found = only(findings(Store().signed((KEY, GOOD)), origin=origin))
    assert (found.good, found.digest) == (True, DIGEST)


def test_a_registry_that_fails_is_no_signature_that_is_missing() -> None:
    class Failing(Store):
        async def manifest(self, origin: Origin, reference: str) -> Manifest:
            raise Unavailable("registry.example does not answer")

    with pytest.raises(Unavailable):
        findings(Failing())


# --- bundles ------------------------------------------------------------------------------------------


def test_a_bundle_with_a_statement() -> None:
    found = only(findings(Store().bundled(dsse_bundle(KEY, statement(DIGEST)))))
    assert (found.good, found.digest, found.identity, found.notes) == (True, DIGEST, "", ())


def test_a_bundle_with_a_signature_of_the_manifest() -> None:
    assert only(findings(Store().bundled(message_bundle(KEY, MANIFEST)))).good
    assert "another image" in only(findings(Store().bundled(message_bundle(KEY, b"{}")))).reason


def test_a_bundle_says_what_was_not_checked() -> None:
    bundle = dsse_bundle(
        KEY,
        statement(DIGEST),
        tlogEntries=[{"logIndex": "1"}],
        timestampVerificationData={"rfc3161Timestamps": [{"signedTimestamp": "AA=="}]},
    )
    notes = only(findings(Store().bundled(bundle))).notes
    assert notes == ("its entry in a transparency log was not checked", "its timestamp was not checked")


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        (dsse_bundle(OTHER, statement(DIGEST)), "made with another key"),
        (dsse_bundle(KEY, statement("sha256:" + "0" * 64)), "for another image"),
        (dsse_bundle(KEY, statement(DIGEST, "https://slsa.dev/provenance/v1")), "an attestation"),
        (dsse_bundle(OTHER, statement(DIGEST), publicKey=None, certificate={"rawBytes": "AA=="}), "a certificate"),
        (dsse_bundle(KEY, statement(DIGEST)).replace(b'"sig": "', b'"sig": "!'), "not in base64"),
        (dsse_bundle(KEY, statement(DIGEST)).replace(b"in-toto+json", b"other+json"), "made with another key"),
        (dsse_bundle(KEY, statement(DIGEST)).replace(b'{"sig"', b'{"keyid": "z", "sig"'), "different keys"),
        (b'{"mediaType": "%s"}' % BUNDLE.encode(), "verificationMaterial"),
        (b'{"mediaType": "text/plain"}', "of the type"),
        (b"[]", "damaged"),
    ],
)
def test_bundles_that_are_not_good(bundle: bytes, reason: str) -> None:
    found = only(findings(Store().bundled(bundle)))
    assert not found.good
    assert reason in found.reason


def test_a_signature_that_cosign_made_itself() -> None:
    """From its test data (pkg/cosign/testdata/oci-attestation.sigstore.json), by the key in the certificate there."""
    key = (
        b"-----BEGIN PUBLIC KEY-----\n"
        b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEk/CiYRmA9zsa7ams/+fI+wGeXOFx\n"
        b"ng4J0wSj1jub7kxArHhGwvgcVE3ubrGXNQB9X3ksG0F+MiXHG8gRzxrr0A==\n"
        b"-----END PUBLIC KEY-----\n"
    )
    said = (
        b'{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://cosign.sigstore.dev/attestation/v1",'
        b'"subject":[{"name":"127.0.0.1:60943/repo","digest":'
        b'{"sha256":"732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4"}}],'
        b'"predicate":{"Data":"{\\"foo\\": \\"bar\\"}\\n","Timestamp":"2025-02-28T19:18:11Z"}}'
    )
    signature = "MEQCIDomiuYVgNKyfYz/leqvtEY2xuifteigjq+LfShu92BBAiBxixsGZNYBVRhGjX6OZiPQBIoUf+i8VgPh//AT/z4Vgg=="
    bundle = json.loads(dsse_bundle(KEY, said))
    bundle["dsseEnvelope"]["signatures"] = [{"sig": signature}]
    read = read_bundle(json.dumps(bundle).encode())
    assert Key(key, "").verifies(read.signature, read.signed())
    assert not Key(key, "").verifies(read.signature, read.signed() + b" ")


def test_an_envelope_with_two_signatures_is_refused() -> None:
    bundle = json.loads(dsse_bundle(KEY, statement(DIGEST)))
    bundle["dsseEnvelope"]["signatures"] *= 2
    assert "exactly one" in only(findings(Store().bundled(json.dumps(bundle).encode()))).reason


def test_other_artifacts_are_not_looked_at() -> None:
    assert findings(Store().bundled(dsse_bundle(KEY, statement(DIGEST)), "application/spdx+json")) == []


# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["rsa", "ed25519", "p384"],
)
def test_other_kinds_of_keys(key: PRIVATE) -> None:
    assert only(findings(Store().signed((key, GOOD)), keys=(key,))).good
    assert not only(findings(Store().signed((key, GOOD)), keys=(KEY,))).good


def test_the_hash_that_fits_the_curve_and_pss_are_taken_too() -> None:
    large, old = ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)
    assert Key(pem(large), "").verifies(large.sign(b"x", ec.ECDSA(hashes.SHA384())), b"x")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    assert Key(pem(old), "").verifies(old.sign(b"x", pss, hashes.SHA256()), b"x")
    assert not Key(pem(old), "").verifies(old.sign(b"x", pss, hashes.SHA256()), b"y")


def test_what_is_no_usable_key() -> None:
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    short = rsa.generate_private_key(65537, 1024)
    curve = ec.generate_private_key(ec.SECP256K1())
    for content, why in [
        (b"", "not a public key"),
        (private, "private key"),
        (pem(short), "fewer than 2048"),
        (pem(curve), "not known"),
    ]:
        with pytest.raises(InvalidArgument, match=why):
            Key(content, "team.pub")


def test_a_signature_over_nothing_of_ours() -> None:
    assert not Key(pem(KEY), "").verifies(b"", GOOD)
    assert not Key(pem(KEY), "").verifies(base64.b64decode("MEUCIQ=="), GOOD)
    assert Key(pem(KEY), "").verifies(sign(KEY, GOOD), GOOD)
