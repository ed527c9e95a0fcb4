"""What registries and people say of images: names, platforms, manifests, configurations, and challenges."""

from __future__ import annotations

import msgspec

from fuzz.checks import Target, hold, only
from hooper.api.errors import DataLoss, InvalidArgument, NotFound, Unsupported
from hooper.api.manifests import (
    ACCEPTED,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    ImageManifest,
    Index,
    as_referrer,
    check_image,
    choose,
    decode_image,
    digest_of,
    fits,
    make_manifest,
    parse_manifest,
    parse_platform,
    platform_name,
)
from hooper.api.reference import Reference, is_digest
from hooper.api.registry import Descriptor, Manifest
from hooper_registry_http.challenge import Challenge, parse_challenges
from hooper_registry_server.manifests import parse as parse_served
from hooper_registry_server.problems import Problem

# --- names --------------------------------------------------------------------------------------------


def feed_reference(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    with only(InvalidArgument):
        found = Reference.parse(text)
        for written in (str(found), found.familiar):
            hold(_parsed(written) == found, "a reference reads back", written, found)
        tagged = found.with_default_tag()
        hold(_parsed(tagged.familiar) == tagged and (tagged.tag or tagged.digest), "so it does with a tag", tagged)
        hold(len(found.name) <= 255 + len("library/") and found.name.isascii(), "a name is short and plain", found)
        hold(not found.digest or is_digest(found.digest), "a digest is one", found)


def _parsed(text: str) -> Reference | None:
    try:
        return Reference.parse(text)
    except InvalidArgument:
        return None


def feed_platform(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    with only(InvalidArgument):
        found = parse_platform(text)
        name = platform_name(found)
        hold(name.isascii() and name == name.lower(), "a platform is plain", found)
        hold(found.os and found.architecture and parse_platform(name) == found, "a platform reads back", found)
        hold(fits(found, found), "a platform suits itself", found)


# --- manifests ----------------------------------------------------------------------------------------

_TYPES = ("", *ACCEPTED, "text/plain", "application/vnd.docker.distribution.manifest.v1+json")


def feed_manifest(data: bytes) -> None:
    """The first byte says as what it was sent."""
    content = data[1:]
    given = Manifest(
        Descriptor(_TYPES[data[0] % len(_TYPES)] if data else "", digest_of(content), len(content)), content
    )
    subject, entry = as_referrer(given)
    hold(entry.digest == given.descriptor.digest and isinstance(subject, str), "a referrer is itself", entry)
    with only(DataLoss, Unsupported):
        parsed = parse_manifest(given, "name")
        _check_parts(parsed)
        written = make_manifest(parsed)
        hold(parse_manifest(written, "name") == parsed, "a manifest reads back", parsed, written.content)
        if isinstance(parsed, ImageManifest):
            check_image(parsed, "name")
        else:
            _check_choice(parsed)


def _check_parts(parsed: ImageManifest | Index) -> None:
    parts = [parsed.config, *parsed.layers] if isinstance(parsed, ImageManifest) else parsed.manifests
    for part in parts:
        hold(0 <= part.size < 1 << 63 and is_digest(part.digest), "a descriptor has a digest and a size", part)


def _check_choice(index: Index) -> None:
    for entry in index.manifests[:8]:
        if entry.platform is None:
            continue
        with only(NotFound):
            chosen = choose(index, entry.platform)
            hold(chosen in index.manifests, "what is chosen is there", chosen)


def feed_config(data: bytes) -> None:
    with only(DataLoss):
        image = decode_image(data, "name")
        written = msgspec.json.encode(image)
        hold(decode_image(written, "name") == image, "a configuration reads back", image, written)


def feed_served(data: bytes) -> None:
    """The first byte says as what it is pushed."""
    content, kind = data[1:], _TYPES[data[0] % len(_TYPES)] if data else ""
    try:
        stored = parse_served(content, kind, digest_of(content))
    except Problem as problem:
        hold((problem.status, problem.code) == (400, "MANIFEST_INVALID"), "a bad manifest is refused", problem)
        hold(msgspec.json.decode(problem.body())["errors"], "a problem can be sent", problem)
        return
    hold(stored.content == content and stored.media_type.isascii(), "a manifest is kept as it is", stored)
    for part in stored.parts:
        hold(is_digest(part.digest) and part.size >= 0, "its parts are blobs", part)
    msgspec.json.encode([stored.annotations, stored.artifact_type, stored.subject])


# --- challenges ---------------------------------------------------------------------------------------


def feed_challenge(data: bytes) -> None:
    """Fields of a header, one a line, in the characters in which an HTTP client has them."""
    found = parse_challenges(data.decode("latin-1").split("\n"))
    for challenge in found:
        hold(challenge.scheme and challenge.scheme == challenge.scheme.lower(), "schemes are lower case", challenge)
        hold(all(name and name == name.lower() for name in challenge.parameters), "so are names", challenge)
        hold(challenge.scheme.isascii() and " " not in challenge.scheme, "a scheme is a token", challenge)
    hold(parse_challenges([_written(one) for one in found]) == found, "challenges read back", found)
    hold(parse_challenges([", ".join(map(_written, found))]) == found, "so they do in one field", found)


def _written(challenge: Challenge) -> str:
    pairs = [
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in challenge.parameters.items()
    ]
    return f"{challenge.scheme} {', '.join(pairs)}".strip()


# --- seeds --------------------------------------------------------------------------------------------

_DIGEST = b"sha256:" + b"0a" * 32
_REFERENCES = (
    b"", b"busybox", b"localhost:5000/a/b:1", b"docker.io/library/a", b"a.b/c-d__e@" + _DIGEST, b"[::1]:5000/a:b",
    b"A/b",
    # Names that, written short, would be something else.
    b"docker.io/docker.io/a", b"docker.io/localhost/a", b"docker.io/a.b/c", b"docker.io/" + b"0a" * 32,
)  # fmt: skip
_PLATFORMS = (b"", b"linux", b"linux/arm64/v8", b"x86_64", b"windows/amd64", "linux/\u00e9".encode(), b"macos/aarch64")


def _descriptor(kind: str, *more: bytes, size: bytes = b"7", digest: bytes = _DIGEST) -> bytes:
    members = (b'"mediaType":"%s"' % kind.encode(), b'"digest":"%s"' % digest, b'"size":%s' % size, *more)
    return b"{%s}" % b",".join(members)


def _image(kind: str, config: bytes, *layers: bytes) -> bytes:
    return b'{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s],"annotations":{"a":"b"}}' % (
        kind.encode(), config, b",".join(layers),
    )  # fmt: skip


_PLATFORM = b'"platform":{"os":"linux","architecture":"arm","variant":"v7"}'
_NESTED = b'{"schemaVersion":2,"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
_MANIFESTS = (
    b"",
    b"\0" + _image(DOCKER_MANIFEST, _descriptor(DOCKER_CONFIG), _descriptor(DOCKER_LAYER)),
    b"\0" + _image(OCI_MANIFEST, _descriptor(OCI_CONFIG), _descriptor(OCI_LAYER_TAR)),
    b'\1{"schemaVersion":2,"manifests":[%s,%s]}'
    % (_descriptor(OCI_MANIFEST, _PLATFORM), _descriptor(OCI_INDEX, b'"artifactType":"a/b"')),
    b'\3{"schemaVersion":2,"subject":%s,"config":%s,"layers":[]}'
    % (_descriptor(OCI_MANIFEST), _descriptor("application/vnd.oci.empty.v1+json", b'"urls":["x"]')),
    b'\5{"schemaVersion":1}',
    b'\0{"schemaVersion":2,"mediaType":[]}',
    # A size that is negative, a digest that is a path, JSON that is no UTF-8, and JSON that is nested too deeply.
    b"\0" + _image(OCI_MANIFEST, _descriptor(OCI_CONFIG, size=b"-1")),
    b"\0" + _image(OCI_MANIFEST, _descriptor(OCI_CONFIG, digest=b"sha256:../../x")),
    b'\0{"\xd6":1}',
    b"\0" + _NESTED,
)
_CONFIGS = (
    b"{}",
    b'{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":'
    b'["CMD","a"],"Interval":1}},"rootfs":{"type":"layers","diff_ids":["%s"]},"history":[{"created_by":"x"}]}'
    % _DIGEST,
    b'{"config":null,"rootfs":null,"history":null,"hooper.buildcache.v1":{"a":[1.5]}}',
    b'{"config":{"User":null},"os.version":"1"}',
    _NESTED,
)
_CHALLENGES = (
    b"Basic",
    b'Bearer realm="https://a/token?x=1,2",service=reg ,scope="a:b:pull,push"',
    b'Negotiate YWJj==, BASIC realm="x\\"y"',
    b'Bearer realm="open',
    b"Basic realm=a\nBearer realm=\xe9",
)

REFERENCE = Target(feed_reference, _REFERENCES)
PLATFORM = Target(feed_platform, _PLATFORMS)
MANIFEST = Target(feed_manifest, _MANIFESTS)
CONFIG = Target(feed_config, _CONFIGS)
SERVED_MANIFEST = Target(feed_served, _MANIFESTS)
CHALLENGE = Target(feed_challenge, _CHALLENGES)
