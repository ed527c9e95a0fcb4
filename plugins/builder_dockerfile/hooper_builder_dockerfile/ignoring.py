"""The ignore file of a context: DOCKERFILE.dockerignore, or else .dockerignore. (Dockerfile reference.)"""

from __future__ import annotations

from collections.abc import Sequence

from hooper.api.builder import BuildServices
from hooper.api.errors import InvalidArgument
from hooper.api.patterns import parse_ignore_file

IGNORE_FILE = ".dockerignore"


async def read_ignore_file(services: BuildServices, files: Sequence[str], context: str = "") -> list[str]:
    """Leaves out of a context what the first of these files that is there says; returns its patterns.

    InvalidArgument names the file and the line of a bad one.
    """
    for file in files:
        content = await services.read(file, context)
        if content is None:
            continue
        try:
            patterns = parse_ignore_file(content.decode(), file)
        except UnicodeDecodeError as error:
            raise InvalidArgument(file, f"it is not UTF-8 text: {error}", "Save it as UTF-8.") from error
        services.ignore(patterns, file, context)
        return patterns
    return []
