"""Files from URLs: a worker's work, since a download takes as long as it takes.

A directory holds the file in `tree`, and in `record` what the server said of it, by which it is asked next time whether
it has another one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from hooper.api.errors import HooperError, InvalidArgument, NotFound, Unavailable, no_space

if TYPE_CHECKING:
    from http.client import HTTPResponse

_TIMEOUT = 60.0
"""Seconds without a byte."""
_BLOCK = 1 << 18


class _Record(msgspec.Struct):
    digest: str
    """sha256, hexadecimal."""
    size: int
    etag: str = ""
    modified: str = ""


def without_secrets(url: str) -> str:
    """The URL as it may be shown: a password is x's, and so is the user of a web server who has none: a token.

    InvalidArgument if it is no URL at all.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidArgument("invalid URL", str(error), "Write https://HOST/PATH") from error
    user, host = parts.username, parts.netloc.rpartition("@")[2]
    if parts.password is not None:
        user = f"{user}:xxxxx"
    elif user and parts.scheme in ("http", "https"):
        user = "xxxxx"
    else:
        return url
    return parts._replace(netloc=f"{user}@{host}").geturl()


def fetch(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: gets `url` into the directory `place`, named `name`, mode 0600; its time is the server's Last-Modified.

    `checksum`: the sha256 it must have, "" for any. `limit`: bytes that it may have, 0 for any. `settled`: somebody
    uses what is there. Returns {digest, size, sent (bytes that came), changed}: `changed` says that the server has
    another file, which was not kept since what is there is settled. InvalidArgument, NotFound, Unavailable.
    """
    place, name, wanted = Path(arguments["place"]), os.fsdecode(arguments["name"]), arguments["checksum"]
    old = _old(place, name)
    if old is not None and wanted and old.digest == wanted:
        return {"digest": old.digest, "size": old.size, "sent": 0, "changed": False}
    shown = without_secrets(arguments["url"])
    try:
        new = _get(arguments["url"], shown, place / "new", old, arguments["limit"])
    except (HooperError, OSError, ValueError) as error:
        (place / "new").unlink(missing_ok=True)
        raise _failed(error, shown) from None
    found = old if new is None else new
    assert found is not None
    if wanted and found.digest != wanted:
        (place / "new").unlink(missing_ok=True)
        raise InvalidArgument(
            f"digest mismatch: {shown} has sha256:{found.digest}, expected sha256:{wanted}",
            remedy="Check the URL and the checksum.",
        )
    answer = {"digest": found.digest, "size": found.size, "sent": new.size if new else 0, "changed": False}
    if new is None:
        return answer
    if old is not None and old.digest == new.digest:
        (place / "new").unlink()
    elif arguments["settled"] and old is not None:
        (place / "new").unlink()
        return {**answer, "changed": True}
    else:
        _put(place, name)
    (place / "record.new").write_bytes(msgspec.msgpack.encode(new))
    os.replace(place / "record.new", place / "record")
    return answer


def _failed(error: Exception, shown: str) -> HooperError:
    if isinstance(error, HooperError):
        return error
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return no_space(error, f"cannot keep {shown}") or Unavailable(
        f"ADD failed: GET {shown}", str(reason), "Check the URL and the network."
    )


def _old(place: Path, name: str) -> _Record | None:
    try:
        record = msgspec.msgpack.decode((place / "record").read_bytes(), type=_Record)
        return record if (place / "tree" / name).stat().st_size == record.size else None
    except (OSError, msgspec.DecodeError):
        return None


def _put(place: Path, name: str) -> None:
    (place / "record").unlink(missing_ok=True)
    shutil.rmtree(place / "tree", ignore_errors=True)
    (place / "tree").mkdir(mode=0o755)
    os.rename(place / "new", place / "tree" / name)


def _get(url: str, shown: str, target: Path, old: _Record | None, limit: int) -> _Record | None:
    """None: the server has no other than the old one."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    headers = {"User-Agent": "hooper", "Accept-Encoding": "identity"}
    if old is not None and old.etag:
        headers["If-None-Match"] = old.etag
    elif old is not None and old.modified:
        headers["If-Modified-Since"] = old.modified
    try:
        with _opened(url, headers) as response:
            return _written(response, shown, target, limit)
    except HTTPError as error:
        if error.code == 304 and old is not None:
            return None
        raise _refused(shown, error.code) from None
    except HTTPException as error:
        raise Unavailable(f"ADD failed: GET {shown}", f"{type(error).__name__}: {error}", "Try again later.") from None


def _opened(url: str, headers: Mapping[str, str]) -> HTTPResponse:
    """Follows redirects to http and https alone, without the credentials that the URL itself has."""
    import urllib.request
    from base64 import b64encode

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"cannot fetch {without_secrets(url)}", "it is no URL of a web server", "Write https://…")
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(parts._replace(netloc=host, fragment="").geturl(), headers=dict(headers))
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {b64encode(pair.encode()).decode()}")
    opener = urllib.request.OpenerDirector()
    handlers = (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    response: HTTPResponse = opener.open(request, timeout=_TIMEOUT)
    if response is None:  # of a redirect to a scheme that no handler has
        raise Unavailable(f"ADD failed: GET {without_secrets(url)}", "it leads to what is no web server")
    return response


def _written(response: HTTPResponse, shown: str, target: Path, limit: int) -> _Record:
    digest, size = hashlib.sha256(), 0
    announced = response.headers.get("Content-Length", "")
    with target.open("wb") as file:
        while data := response.read(_BLOCK):
            size += len(data)
            if limit and size > limit:
                raise InvalidArgument(
                    f"cannot fetch {shown}", f"it has more than {limit} bytes", "Raise builder.context_limit."
                )
            digest.update(data)
            file.write(data)
    if announced.isdigit() and int(announced) != size:
        raise Unavailable(f"ADD failed: GET {shown}", f"it ended after {size} of {announced} bytes", "Try again.")
    modified = response.headers.get("Last-Modified", "")
    target.chmod(0o600)
    seconds = _seconds(modified)
    os.utime(target, (seconds, seconds))
    return _Record(digest.hexdigest(), size, response.headers.get("ETag", ""), modified)


def _refused(shown: str, status: int) -> HooperError:
    what, why = f"ADD failed: GET {shown}", f"the server answered {status}"
    if status in (404, 410):
        return NotFound(what, why, "Check the URL.")
    if status < 500:
        return InvalidArgument(what, why, "Check the URL; no credentials are sent but those that are in it.")
    return Unavailable(what, why, "Try again later.")


def _seconds(text: str) -> float:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0
