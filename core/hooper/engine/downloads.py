"""Files from URLs, for ADD."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio

from hooper.api.errors import InvalidArgument, NotFound, Unavailable
from hooper.api.imports import import_without

_TIMEOUT = 60.0
"""Seconds without a byte."""
_DEFAULT_NAME = "download"


async def download(url: str, directory: Path) -> Path:
    """Fetches an http(s) URL into a file of the directory, named as the URL's path ends, mode 0600.

    Its time is the server's Last-Modified, else the epoch, so that the same content makes the same layer.
    NotFound, InvalidArgument (other 4xx) or Unavailable say what the server said.
    """
    import_without("httpx", "rich", "pygments")  # for a command line of its own: 5 MB
    import httpx

    name = posixpath.basename(unquote(urlsplit(url).path))
    target = directory / (name if name not in ("", ".", "..") and "\0" not in name else _DEFAULT_NAME)
    try:
        async with (
            httpx.AsyncClient(follow_redirects=True, timeout=_TIMEOUT) as client,
            client.stream("GET", url) as response,
        ):
            _check(url, response.status_code)
            async with await anyio.open_file(target, "xb") as file:
                async for chunk in response.aiter_bytes():
                    await file.write(chunk)
            modified = response.headers.get("last-modified", "")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"ADD failed: GET {url}", str(error) or type(error).__name__, "Check the URL and the network."
        ) from error
    target.chmod(0o600)
    seconds = _seconds(modified)
    os.utime(target, (seconds, seconds))
    return target


def _check(url: str, status: int) -> None:
    if status < 400:
        return
    what, why = f"ADD failed: GET {url}", f"the server answered {status}"
    if status in (404, 410):
        raise NotFound(what, why, "Check the URL.")
    if status < 500:
        raise InvalidArgument(what, why, "Check the URL; ADD sends no credentials.")
    raise Unavailable(what, why, "Try again later.")


def _seconds(text: str) -> float:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0
