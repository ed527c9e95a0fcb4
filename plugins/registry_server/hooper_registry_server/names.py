"""The grammar of names, tags and digests (distribution-spec, "Pulling manifests"; image-spec descriptor.md)."""

from __future__ import annotations

import hashlib
import re
from typing import NoReturn

from hooper_registry_server.problems import Problem, missing_manifest

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"(?P<algorithm>[a-z0-9]+(?:[+._-][a-z0-9]+)*):(?P<encoded>[a-zA-Z0-9=_-]+)")
_MAX_NAME = 255
HEX_DIGITS = {"sha256": 64, "sha512": 128}
"""Supported algorithms, and the length of their digests."""


def check_name(name: str) -> str:
    """The name itself, or a Problem."""
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise Problem(400, "NAME_INVALID", "invalid repository name", {"name": name[:_MAX_NAME]})
    return name


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def check_tag(text: str) -> str:
    if not is_tag(text):
        raise Problem(400, "MANIFEST_INVALID", "invalid tag", {"tag": text[:200]})
    return text


def is_digest(text: str) -> bool:
    """Whether it is a digest of an algorithm that is supported here."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == HEX_DIGITS.get(algorithm) and re.fullmatch(r"[a-f0-9]+", encoded) is not None


def check_digest(text: str) -> str:
    if not is_digest(text):
        _bad_digest(text)
    return text


def _bad_digest(text: str) -> NoReturn:
    found = _DIGEST.fullmatch(text)
    if found and found["algorithm"] not in HEX_DIGITS:
        supported = ", ".join(HEX_DIGITS)
        raise Problem(400, "DIGEST_INVALID", f"unsupported digest algorithm; there are {supported}")
    raise Problem(400, "DIGEST_INVALID", "invalid digest", {"digest": text[:200]})


def looked_up(reference: str) -> str:
    """A tag or digest to look for: what is neither cannot be there."""
    if ":" in reference:
        return check_digest(reference)
    if not is_tag(reference):
        raise missing_manifest(reference[:200])
    return reference


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
