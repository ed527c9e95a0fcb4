"""What went wrong with a registry, in the kinds of hooper.api.errors."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from hooper.api.errors import Forbidden, HooperError, InvalidArgument, NotFound, Unauthorized, Unavailable, Unsupported
from hooper.api.manifests import NO_JSON

if TYPE_CHECKING:
    import httpx


def check(
    response: httpx.Response, good: Sequence[int], host: str, name: str, what: str, *, pushing: bool = False
) -> None:
    """Raises the kind that an answer outside of `good` means. `name` is the repository's, `what` was asked for."""
    status = response.status_code
    if status in good:
        return
    why = explanation(response)
    if status in (401, 403):
        raise _denied(name, host, status, why, pushing)
    if status == 404:
        raise NotFound(f"{what} not found", why, "Check the name; the image may have been removed, or pushed in part.")
    if status == 405:
        raise Unsupported(f"the registry {host} refused this for {what}", why)
    if status == 429:
        raise Unavailable(f"toomanyrequests: {why}", remedy=f"Wait, or log in: docker login {host}")
    if status >= 500:
        raise Unavailable(f"the registry {host} failed with {what}", why, "Try again later.")
    if 300 <= status < 400:
        raise Unavailable(f"the registry {host} failed with {what}", "it redirects without end, or to nowhere")
    raise InvalidArgument(f"the registry {host} refused {what}", why)


def _denied(name: str, host: str, status: int, why: str, pushing: bool) -> HooperError:
    remedy = f"Log in with an account that may: docker login {host}"
    if pushing:
        kind: type[HooperError] = Unauthorized if status == 401 else Forbidden
        return kind(f"push access denied for {name}", why, remedy)
    denied = f"pull access denied for {name}, repository does not exist or may require 'docker login'"
    return Unauthorized(denied, why, remedy)


def explanation(response: httpx.Response) -> str:
    """The registry's own words (distribution-spec, "Error Codes"), else the status."""
    try:
        errors = msgspec.json.decode(response.content, type=dict[str, Any])["errors"]
        texts = [str(item.get("message") or item.get("code", "")) for item in errors]
        return "; ".join(text for text in texts if text)[:500] or f"HTTP {response.status_code}"
    except (*NO_JSON, KeyError, TypeError, AttributeError):
        return f"HTTP {response.status_code}"


def _causes(error: BaseException) -> list[BaseException]:
    """The error, and all that it came from, down to the operating system's."""
    found: list[BaseException] = [error]
    for item in found:
        nested = item.exceptions if isinstance(item, BaseExceptionGroup) else ()
        for cause in (item.__cause__, item.__context__, *nested):
            if cause is not None and cause not in found:
                found.append(cause)
    return found


def may_pass(error: BaseException) -> bool:
    """Whether trying again makes sense: not for a name that does not exist, nor for a bad certificate."""
    return not any(
        isinstance(cause, socket.gaierror | ssl.SSLCertVerificationError) or _wants_certificate(cause)
        for cause in _causes(error)
    )


def _wants_certificate(error: BaseException) -> bool:
    """Whether the registry ended the connection for want of a certificate of ours, or for one that it does not know."""
    reason = error.reason or "" if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def unavailable(host: str, error: BaseException) -> HooperError:
    """The kind that a failed connection comes to, with the true cause and what to do."""
    import httpx

    what = f"cannot reach the registry {host}"
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            remedy = f"Put its CA in /etc/hooper/certs.d/{host}/ca.crt, or list the registry as insecure."
            return Unavailable(what, f"its certificate is not trusted ({cause.verify_message})", remedy)
        if _wants_certificate(cause):
            remedy = f"Put client.cert and client.key in /etc/hooper/certs.d/{host}."
            return Unavailable(what, "it wants a client certificate that it trusts", remedy)
        if isinstance(cause, socket.gaierror):
            return Unavailable(what, f"no such host ({cause.strerror})", "Check its name and this host's DNS.")
    if isinstance(error, httpx.ProxyError):
        return Unavailable(what, f"the proxy refused: {error}", "Check the proxy's settings.")
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        why = str(error) if isinstance(error, httpx.ReadTimeout) and str(error) else "it did not answer in time"
        return Unavailable(what, why, "Check the network, proxy and firewall; try again.")
    system = next((c for c in causes if isinstance(c, OSError) and c.strerror), None)
    if isinstance(system, ConnectionRefusedError):
        return Unavailable(what, "connection refused", "Check that it runs, and its port.")
    why = str(system.strerror if isinstance(system, OSError) else error) or type(error).__name__
    return Unavailable(what, why, "Check the network and try again.")
