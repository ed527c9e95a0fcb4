"""Images and their signatures in a registry, written as cosign writes them, by hand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import urllib.request
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hooper.api.manifests import host_architecture

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
PRIVATE = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def new_key() -> ec.EllipticCurvePrivateKey:
    """As `cosign generate-key-pair` makes it."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: PRIVATE) -> bytes:
    """The public key, as cosign.pub has it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(key: PRIVATE, data: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(data)


def payload(digest: str, repository: str, kind: str = "cosign container image signature") -> bytes:
    """What cosign signs: compact, members in the order of their names, as Go's encoder leaves it."""
    return json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": digest},
                "type": kind,
            },
            "optional": None,
        },
        separators=(",", ":"),
    ).encode()


def statement(digest: str, predicate: str = "https://sigstore.dev/cosign/sign/v1") -> bytes:
    algorithm, _, value = digest.partition(":")
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {algorithm: value}}],
            "predicateType": predicate,
            "predicate": {},
        }
    ).encode()


def pae(kind: str, data: bytes) -> bytes:
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(data)).encode(), data])


def dsse_bundle(key: PRIVATE, signed: bytes, **material: Any) -> bytes:
    kind = "application/vnd.in-toto+json"
    envelope = {
        "payload": base64.b64encode(signed).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(sign(key, pae(kind, signed))).decode()}],
    }
    return _bundle({"dsseEnvelope": envelope}, material)


def message_bundle(key: PRIVATE, manifest: bytes, **material: Any) -> bytes:
    message = {
        "messageDigest": {
            "algorithm": "SHA2_256",
            "digest": base64.b64encode(hashlib.sha256(manifest).digest()).decode(),
        },
        "signature": base64.b64encode(sign(key, manifest)).decode(),
    }
    return _bundle({"messageSignature": message}, material)


def _bundle(content: dict[str, Any], material: dict[str, Any]) -> bytes:
    verification = {"publicKey": {"hint": "k"}} | material
    return json.dumps({"mediaType": BUNDLE, "verificationMaterial": verification, **content}).encode()


def signature_layer(key: PRIVATE, signed: bytes, **annotations: str) -> dict[str, Any]:
    signature = base64.b64encode(sign(key, signed)).decode()
    return {
        "mediaType": SIMPLE_SIGNING,
        "size": len(signed),
        "digest": digest_of(signed),
        "annotations": {"dev.cosignproject.cosign/signature": signature, **annotations},
    }


@cache
def _packed(layer: bytes) -> bytes:
    return gzip.compress(layer, 1, mtime=0)


@dataclass
class Repository:
    """One of a registry's, by plain HTTP."""

    host: str
    name: str

    def _send(self, method: str, path: str, body: bytes, kind: str) -> str:
        url = path if path.startswith("http") else f"http://{self.host}/v2/{self.name}/{path}"
        request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.headers.get("Location", ""))

    def blob(self, content: bytes, kind: str = "application/octet-stream") -> dict[str, Any]:
        place = self._send("POST", "blobs/uploads/", b"", "application/octet-stream")
        joint = "&" if "?" in place else "?"
        self._send("PUT", f"{place}{joint}digest={digest_of(content)}", content, "application/octet-stream")
        return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}

    def manifest(self, document: dict[str, Any], reference: str = "") -> tuple[str, bytes]:
        content = json.dumps(document).encode()
        self._send("PUT", f"manifests/{reference or digest_of(content)}", content, document["mediaType"])
        return digest_of(content), content

    def image(self, tag: str, layer: bytes, architecture: str = "") -> tuple[str, bytes]:
        """Pushes an image of one layer that is different for every tag; its digest and manifest."""
        architecture = architecture or host_architecture()
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"name": f"{self.name}:{tag}"}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
        return self.manifest(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self.blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
                "layers": [self.blob(_packed(layer), "application/vnd.oci.image.layer.v1.tar+gzip")],
            },
            tag,
        )

    def index(self, tag: str, **manifests: tuple[str, bytes]) -> str:
        """Pushes an index of manifests by architecture; its digest."""
        entries = [
            {
                "mediaType": OCI_MANIFEST,
                "digest": digest,
                "size": len(content),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, (digest, content) in manifests.items()
        ]
        return self.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, tag)[0]

    def signature(self, digest: str, *signed: tuple[PRIVATE, bytes]) -> None:
        """As `cosign sign` without bundles: a manifest with a layer a signature, under a tag made of the digest."""
        for _, content in signed:
            self.blob(content)
        self.manifest(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self.blob(b'{"rootfs":{}}', "application/vnd.oci.image.config.v1+json"),
                "layers": [signature_layer(key, content) for key, content in signed],
            },
            f"{digest.replace(':', '-')}.sig",
        )

    def bundle(self, digest: str, manifest: bytes, bundle: bytes) -> None:
        """As `cosign sign` with bundles: an artifact whose subject is the image, and the tag for registries that have
        no referrers API (distribution-spec, Referrers Tag Schema)."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": BUNDLE,
            "config": self.blob(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [self.blob(bundle, BUNDLE)],
            "subject": {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(manifest)},
        }
        own, content = self.manifest(document)
        entry = {"mediaType": OCI_MANIFEST, "digest": own, "size": len(content), "artifactType": BUNDLE}
        self.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}, digest.replace(":", "-"))
