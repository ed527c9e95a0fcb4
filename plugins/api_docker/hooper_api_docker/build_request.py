"""The parameters of POST /build as a BuildRequest.

Beside Docker's parameters there are hooper's own:

- `session=ID`: the client's session (`build_sessions`), by which contexts, secrets, agents and outputs go.
- `remote=hooper-session`: the build's context is what that session has as its context "". (Another `remote` is a URL;
  without one the body is a tar.)
- `progress=events`: the answer's lines are the build's own events, {"hooper": EVENT}, as
  `hooper.api.build_events` has them: an object whose "type" says which one, bytes in base64. The last ones are
  as Docker has them: {"aux": {"ID": …}} if an image was made, and errorDetail if it failed.
- `hooper=JSON`: an object, all of whose members may be missing::

    builder             name of the builder
    check               true: nothing is built, the answer has a warning event for each doubtful place
    no_cache_stages     [NAME, …]
    contexts            {NAME: {"kind": "local" | "image" | "url" | "git" | "oci-layout", "value": …}}
    cache_from          [{"Type": "registry" | "local" | "inline", "Attrs": {…}}], beside Docker's `cachefrom`
    cache_to            the same
    allow               ["security.insecure", "network.host"]
    annotations         {NAME: VALUE}
    debug               true
    source_date_epoch   seconds

The outputs go in Docker's own parameter: outputs=[{"Type": "local", "Attrs": {}}].
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from hooper.api.builder import BuildRequest, CacheSpec, NamedContext, OutputSpec
from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.manifests import NO_JSON, parse_platform
from hooper.api.model import Ulimit
from hooper.api.reference import Reference
from hooper_api_docker.bodies import build_credentials
from hooper_api_docker.http import Request
from hooper_api_docker.query import Query

T = TypeVar("T")
BY_SESSION = "hooper-session"
"""`remote` of a context that the client's session has."""
USE_CLASSIC = "Set DOCKER_BUILDKIT=0, or use the classic builder of your client."
_CONTEXT_KINDS = ("local", "image", "url", "git", "oci-layout")
_FORM_TYPES = (b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain")


class _Own(msgspec.Struct, forbid_unknown_fields=True):
    """The parameter `hooper`."""

    builder: str = ""
    check: bool = False
    no_cache_stages: list[str] = []
    contexts: dict[str, NamedContext] = {}
    cache_from: list[CacheSpec] = []
    cache_to: list[CacheSpec] = []
    allow: list[str] = []
    annotations: dict[str, str] = {}
    debug: bool = False
    source_date_epoch: int | None = None


class Asked(msgspec.Struct, kw_only=True):
    """What a POST /build asks for, all of it."""

    request: BuildRequest
    remote: str
    """"" for a tar as the body, `BY_SESSION`, or a URL."""
    session: str
    build_id: str
    """By which POST /build/cancel finds it; "" without one."""
    quiet: bool
    events: bool
    check: bool


def read_request(request: Request) -> Asked:
    """Before the body is read. InvalidArgument names the parameter or header that is wrong."""
    asked = parse(request.query)
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if not asked.remote and kind in _FORM_TYPES:
        # Such bodies any page in a browser may send to a local port.
        raise InvalidArgument(
            f"unsupported Content-Type header ({kind.decode()})", "a build's context is a tar", "Say application/x-tar."
        )
    asked.request.credentials = build_credentials(request)
    return asked


def parse(query: Query) -> Asked:
    """The parameters. InvalidArgument names the one that is wrong."""
    _check_version(query)
    own = query.json("hooper", _Own) or _Own()
    remote, session = query.text("remote"), query.text("session")
    if remote == "client-session":
        raise Unsupported("cannot build from a client-session", "it belongs to BuildKit", USE_CLASSIC)
    if remote == BY_SESSION and not session:
        raise InvalidArgument(f"invalid parameter remote={BY_SESSION}", "there is no session", "Give session=ID too.")
    return Asked(
        request=_build_request(query, own),
        remote=remote,
        session=session,
        build_id=query.text("buildid"),
        quiet=query.flag("q"),
        events=_one_of(query, "progress", ("", "plain", "events")) == "events",
        check=own.check,
    )


def _check_version(query: Query) -> None:
    version = query.text("version")
    if version == "2":
        raise Unsupported("cannot build with BuildKit", "this front-end has the classic builder", USE_CLASSIC)
    if version not in ("", "1"):
        raise _wrong("version", version, "it is 1, the classic builder")


def _build_request(query: Query, own: _Own) -> BuildRequest:
    return BuildRequest(
        builder=own.builder,
        recipe=query.text("dockerfile"),
        tags=_tags(query),
        build_args=query.json("buildargs", dict[str, str | None]) or {},
        labels=query.json("labels", dict[str, str]) or {},
        annotations=own.annotations,
        target=query.text("target"),
        platform=_platform(query),
        no_cache=query.flag("nocache"),
        no_cache_stages=own.no_cache_stages,
        pull=query.flag("pull"),
        remove=query.flag("forcerm") or query.flag("rm", default=True),
        network_mode=_network(query),
        extra_hosts=_hosts(query),
        contexts=_contexts(own),
        cache_from=[CacheSpec("registry", {"ref": one}) for one in _references(query)] + own.cache_from,
        cache_to=own.cache_to,
        outputs=_outputs(query),
        allow=own.allow,
        squash=query.flag("squash"),
        debug=own.debug,
        source_date_epoch=own.source_date_epoch,
        **_limits(query),
    )


def _limits(query: Query) -> dict[str, Any]:
    _one_of(query, "isolation", ("", "default"))
    ulimits = query.json("ulimits", list[Ulimit]) or []
    if any(not ulimit.name for ulimit in ulimits):
        raise _wrong("ulimits", query.text("ulimits"), "one has no name")
    return {
        "memory": _number(query, "memory"),
        "memory_swap": _number(query, "memswap", least=-1),
        "cpu_shares": _number(query, "cpushares"),
        "cpu_quota": _number(query, "cpuquota", least=-1),
        "cpu_period": _number(query, "cpuperiod"),
        "cpuset_cpus": query.text("cpusetcpus"),
        "cpuset_mems": query.text("cpusetmems"),
        "cgroup_parent": query.text("cgroupparent"),
        "shm_size": _number(query, "shmsize"),
        "ulimits": ulimits,
        "security_opt": _words(query, "securityopt"),
    }


# --- values -------------------------------------------------------------------------------------------


def _wrong(name: str, value: str, why: str, remedy: str = "") -> InvalidArgument:
    shown = value if len(value) <= 200 else f"{value[:200]}…"
    return InvalidArgument(f"invalid parameter {name}={shown}", why, remedy)


def _one_of(query: Query, name: str, values: tuple[str, ...]) -> str:
    text = query.text(name)
    if text not in values:
        raise _wrong(name, text, f"it is one of {', '.join(value for value in values if value)}")
    return text


def _number(query: Query, name: str, least: int = 0) -> int:
    """0 if it is missing."""
    value = query.count(name)
    if not least <= value < 1 << 63:
        raise _wrong(name, query.text(name), "it is out of range")
    return value


def _tags(query: Query) -> list[str]:
    """Each once, as it was given, with a tag."""
    found: dict[str, None] = {}
    for text in query.all("t"):
        if not text:
            continue
        try:
            reference = Reference.parse(text)
        except InvalidArgument as error:
            raise _wrong("t", text, error.why or error.what, error.remedy) from None
        if reference.digest:
            raise _wrong("t", text, "an image cannot be named by a digest", "Give a name and a tag, NAME[:TAG].")
        found[text if reference.tag else f"{text}:latest"] = None
    return list(found)


def _platform(query: Query) -> str:
    text = query.text("platform")
    try:
        parse_platform(text)
    except InvalidArgument as error:
        raise _wrong("platform", text, error.why or error.what, error.remedy) from None
    return text.lower()


def _network(query: Query) -> str:
    mode = query.text("networkmode")
    return "" if mode == "default" else mode


def _hosts(query: Query) -> list[str]:
    """NAME:ADDRESS each; "=" as separator is also understood."""
    hosts = []
    for text in _words(query, "extrahosts"):
        name, _, address = text.partition("=" if "=" in text else ":")
        if not (name and (address == "host-gateway" or _is_address(address))):
            raise _wrong("extrahosts", text, "it is not NAME:ADDRESS", "For example: db:10.0.0.2, or db:host-gateway.")
        hosts.append(f"{name}:{address}")
    return hosts


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _words(query: Query, name: str) -> list[str]:
    """A parameter that repeats (docker CLI), or is a JSON list or one with commas (others)."""
    found: list[str] = []
    for value in query.all(name):
        found += _decoded(name, value, list[str]) if value.startswith("[") else value.split(",")
    return [word.strip() for word in found if word.strip()]


def _references(query: Query) -> list[str]:
    found = [text for text in query.json("cachefrom", list[str]) or [] if text]
    for text in found:
        try:
            Reference.parse(text)
        except InvalidArgument as error:
            raise _wrong("cachefrom", text, error.why or error.what, error.remedy) from None
    return found


class _Output(msgspec.Struct, rename="pascal"):
    type: str = ""
    attrs: dict[str, str] | None = None


def _outputs(query: Query) -> list[OutputSpec]:
    found = query.json("outputs", list[_Output]) or []
    if any(not output.type for output in found):
        raise _wrong("outputs", query.text("outputs"), "one has no Type")
    return [OutputSpec(output.type, output.attrs or {}) for output in found]


def _contexts(own: _Own) -> dict[str, NamedContext]:
    for name, context in own.contexts.items():
        if context.kind not in _CONTEXT_KINDS:
            kinds = ", ".join(_CONTEXT_KINDS)
            raise InvalidArgument(
                f'invalid parameter hooper: context "{name}" is {context.kind}', f"it is one of {kinds}"
            )
    return own.contexts


def _decoded(name: str, value: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(value, type=kind)
    except NO_JSON as error:
        raise _wrong(name, value, str(error)) from None
