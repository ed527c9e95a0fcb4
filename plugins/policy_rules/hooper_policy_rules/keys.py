"""Public keys and what they say of a signature. Imported only where signatures are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from hooper.api.errors import InvalidArgument

_RSA_BITS = 2048
"""Shorter ones are refused."""
_HASHES: dict[str, tuple[hashes.HashAlgorithm, ...]] = {
    # cosign has signed with SHA-256 whatever the curve, and now takes the one that fits it.
    "secp256r1": (hashes.SHA256(),),
    "secp384r1": (hashes.SHA384(), hashes.SHA256()),
    "secp521r1": (hashes.SHA512(), hashes.SHA256()),
}


class Key:
    """A public key: ECDSA on P-256, P-384 and P-521, RSA (PKCS #1 v1.5 and PSS, SHA-256), Ed25519 (not pre-hashed)."""

    def __init__(self, pem: bytes, shown: str) -> None:
        """InvalidArgument for what is no such key; `shown` is what it is called then."""
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            why = "it is a private key" if b"PRIVATE KEY" in pem else "it is not a public key in PEM"
            raise InvalidArgument(
                f"cannot use the key {shown}", why, "Give the file that `cosign generate-key-pair` calls cosign.pub."
            ) from error
        self._tries = _tries(key, shown)
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = f"SHA256:{hashlib.sha256(der).hexdigest()}"
        """Of the key's SubjectPublicKeyInfo."""

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature is this key's, over the data."""
        for attempt in self._tries:
            try:
                attempt(signature, data)
            except InvalidSignature:
                continue
            return True
        return False


def _tries(key: object, shown: str) -> Sequence[Callable[[bytes, bytes], None]]:
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        return [_ecdsa(key, algorithm) for algorithm in _HASHES[key.curve.name]]
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS:
        return [
            _rsa(key, padding.PKCS1v15()),
            _rsa(key, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)),
        ]
    if isinstance(key, ed25519.Ed25519PublicKey):
        return [key.verify]
    raise InvalidArgument(
        f"cannot use the key {shown}",
        f"it is an RSA key of fewer than {_RSA_BITS} bits"
        if isinstance(key, rsa.RSAPublicKey)
        else "its kind is not known",
        "Use ECDSA on P-256, as cosign does, RSA or Ed25519.",
    )


def _ecdsa(key: ec.EllipticCurvePublicKey, algorithm: hashes.HashAlgorithm) -> Callable[[bytes, bytes], None]:
    return lambda signature, data: key.verify(signature, data, ec.ECDSA(algorithm))


def _rsa(key: rsa.RSAPublicKey, scheme: padding.AsymmetricPadding) -> Callable[[bytes, bytes], None]:
    return lambda signature, data: key.verify(signature, data, scheme, hashes.SHA256())
