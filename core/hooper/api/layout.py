"""OCI layouts and archives of images, named like images: SCHEME:PATH[:REFERENCE], as skopeo and podman write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hooper.api.errors import InvalidArgument
from hooper.api.reference import is_digest

DIRECTORY, OCI_ARCHIVE, DOCKER_ARCHIVE = "oci", "oci-archive", "docker-archive"
STREAM = "-"
"""The path of an archive that a request carries."""
INDEX, MARK = "index.json", "oci-layout"
"""Files of a layout (OCI image-spec, image-layout.md): what it has, and that it is one."""
MARK_CONTENT = b'{"imageLayoutVersion":"1.0.0"}'
TAG_NAME, WHOLE_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"
"""Annotations in the index that name an image: by its tag, which some tools write the whole reference into; whole."""
_LAYOUT = re.compile(r"(oci-archive|docker-archive|oci(?=:(?!\d+/)[^/]*[/:])):(.+)\Z", re.DOTALL)


@dataclass(frozen=True)
class Layout:
    """A directory (`oci`) or a tar file of one (`oci-archive`), or what `docker save` writes (`docker-archive`)."""

    scheme: str
    path: str
    reference: str = ""
    """What names the image there: a tag or a whole reference, or a digest; "" for the only one."""

    @classmethod
    def parse(cls, text: str) -> Layout | None:
        """None for what is no layout but an ordinary reference. InvalidArgument if there is no path.

        `oci:latest` and `oci:5000/app` are references; a directory in the present one is `oci:./NAME`.
        """
        found = _LAYOUT.match(text)
        if found is None:
            return None
        path, at, digest = found[2].partition("@")
        reference = ""
        if at and is_digest(digest):
            reference = digest
        else:
            path, _, reference = found[2].partition(":")
        if not path or "\0" in text:
            raise InvalidArgument(f'invalid reference format "{text}"', "it has no path", f"Write {found[1]}:PATH:TAG.")
        return cls(found[1], path, reference)

    @property
    def host(self) -> str:
        """What a registry driver is asked to connect to."""
        return f"{self.scheme}:{self.path}"

    def __str__(self) -> str:
        between = "@" if is_digest(self.reference) else ":"
        return f"{self.host}{between}{self.reference}" if self.reference else self.host


def blob_path(digest: str) -> str:
    """Where a layout has a blob."""
    algorithm, _, hexadecimal = digest.partition(":")
    return f"blobs/{algorithm}/{hexadecimal}"


def scheme_of(host: str) -> str:
    """The scheme of what is no registry's host: "oci" of "oci:/srv/images"; "" for a host."""
    scheme, _, path = host.partition(":")
    return scheme if path.startswith("/") else ""
