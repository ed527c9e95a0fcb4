"""Image references, as the distribution project writes them: [host[:port]/]path[:tag][@digest]."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from hooper.api.errors import InvalidArgument

DEFAULT_HOST = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_HOST = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}\Z|sha512:[a-f0-9]{128}\Z")
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")


def is_digest(text: str) -> bool:
    return bool(_DIGEST.match(text))


@dataclass(frozen=True)
class Reference:
    """A parsed reference, normalised: host and "library/" filled in, tag and digest as given."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    @lru_cache(maxsize=1024)
    def parse(cls, text: str) -> Reference:
        """InvalidArgument says what is wrong with `text`."""
        rest, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise _invalid(text, f'"{digest}" is not a digest', "A digest is sha256: and 64 hex digits.")
        name, tag = rest, ""
        colon = rest.rfind(":")
        if colon > rest.rfind("/"):
            name, tag = rest[:colon], rest[colon + 1 :]
            if not _TAG.match(tag):
                raise _invalid(
                    text,
                    f'"{tag}" is not a tag' if tag else "the tag is empty",
                    "A tag has at most 128 letters, digits, and _ . - (not first).",
                )
        return cls(*_split_host(text, name), tag, digest)

    @property
    def name(self) -> str:
        """Host and path: "docker.io/library/busybox"."""
        return f"{self.host}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """As people write it: "busybox", "localhost:5000/app"; whole where less would be read as something else."""
        if self.host != DEFAULT_HOST:
            return self.name
        first, _, rest = self.path.partition("/")
        short = rest if first == "library" and "/" not in rest else self.path
        return self.name if registry_of(short) or _IMAGE_ID.fullmatch(short) else short

    @property
    def familiar(self) -> str:
        """`familiar_name` with tag and digest."""
        return self._suffixed(self.familiar_name)

    def __str__(self) -> str:
        return self._suffixed(self.name)

    def _suffixed(self, name: str) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{name}{tag}{f'@{self.digest}' if self.digest else ''}"

    def with_default_tag(self) -> Reference:
        """With the tag "latest" where neither tag nor digest is given."""
        return self if self.tag or self.digest else replace(self, tag="latest")


def registry_of(name: str) -> str:
    """The registry that a name begins with, as it is written; "" for a short name."""
    first, slash, _ = name.partition("/")
    is_host = any(c in first for c in ".:") or first == "localhost" or first != first.lower()
    return first if slash and is_host else ""


def _split_host(text: str, name: str) -> tuple[str, str]:
    host = registry_of(name)
    path = name.removeprefix(f"{host}/") if host else name
    host = host or DEFAULT_HOST
    if host == "index.docker.io":
        host = DEFAULT_HOST
    if not _HOST.match(host):
        raise _invalid(text, f'"{host}" is not a host name', "Write HOST[:PORT]/PATH.")
    if path != path.lower():
        raise _invalid(text, "repository name must be lowercase", f'Try "{text.lower()}".')
    if not _PATH.match(path):
        raise _invalid(
            text,
            "the repository name is empty" if not path else f'"{path}" is not a repository name',
            "It has lower-case letters and digits, separated by one of . _ __ - or by /.",
        )
    if _IMAGE_ID.fullmatch(name):
        raise _invalid(text, "64 hex digits are an image id, not a repository name", "Give it a name.")
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    if len(host) + 1 + len(path) > 255:
        raise _invalid(text, "the repository name is longer than 255 characters", "Shorten it.")
    return host, path


def _invalid(text: str, why: str, remedy: str) -> InvalidArgument:
    return InvalidArgument(f'invalid reference format "{text}"', why, remedy)
