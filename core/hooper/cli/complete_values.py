"""Which words fit where, as data: the values of flags and the arguments of commands.

A kind is a directive (":files"), a fixed word ("=always"), "context", "filter", or a kind of name that
`hooper.cli.names` knows.
"""

from __future__ import annotations

from collections.abc import Iterable

FILES, DIRECTORIES = (":files",), (":directories",)


def _words(text: str) -> tuple[str, ...]:
    return tuple(f"={word}" for word in text.split())


_SIGNALS = _words("KILL TERM INT HUP QUIT USR1 USR2 STOP CONT WINCH")
_CAPABILITIES = _words(
    "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE "
    "DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD "
    "NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN "
    "SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG "
    "WAKE_ALARM"
)
_FLAGS: dict[str, tuple[str, ...]] = {
    "--allow": _words("network.host security.insecure"),
    "--attach": _words("stdin stdout stderr"),
    "--build-context": FILES,
    "--cache-from": ("image", *_words("type=registry,ref= type=local,src=")),
    "--cache-to": _words("type=inline type=registry,ref= type=local,dest="),
    "--call": _words("build check"),
    "--cap-add": _CAPABILITIES,
    "--cap-drop": _CAPABILITIES,
    "--cgroupns": _words("host private"),
    "--cidfile": FILES,
    "--config": DIRECTORIES,
    "--context": ("context",),
    "--device": FILES,
    "--driver": _words("bridge macvlan ipvlan local"),
    "--env-file": FILES,
    "--file": FILES,
    "--filter": ("filter",),
    "--format": _words("json table"),
    "--from": ("context",),
    "--iidfile": FILES,
    "--input": FILES,
    "--ipc": ("=host", "=private", "=shareable", "=none"),
    "--label-file": FILES,
    "--link": ("container",),
    "--log-driver": _words("json-file local none journald syslog"),
    "--log-level": _words("debug info warn error fatal"),
    "--metadata-file": FILES,
    "--network": ("network", "=host", "=none"),
    "--output": FILES,
    "--pid": _words("host"),
    "--platform": _words("linux/amd64 linux/arm64 linux/arm/v7 linux/386 linux/riscv64 linux/s390x linux/ppc64le"),
    "--progress": _words("auto plain tty quiet rawjson"),
    "--pull": _words("always missing never"),
    "--restart": _words("no always unless-stopped on-failure"),
    "--secret": _words("id= type=env,id= type=file,id="),
    "--security-opt": _words("no-new-privileges seccomp=unconfined systempaths=unconfined apparmor=unconfined"),
    "--signal": _SIGNALS,
    "--sort": _words("cpu memory net io pids name"),
    "--ssh": _words("default"),
    "--stop-signal": _SIGNALS,
    "--tlscacert": FILES,
    "--tlscert": FILES,
    "--tlskey": FILES,
    "--trace": FILES,
    "--type": _words("container image network volume"),
    "--userns": _words("host"),
    "--uts": _words("host"),
    "--volume": ("volume", *FILES),
    "--volume-driver": _words("local"),
    "--volumes-from": ("container",),
}
_CONTAINERS = {
    "start": "startable",
    "unpause": "paused",
    **dict.fromkeys(("attach", "exec", "pause", "port", "top"), "running"),
    **dict.fromkeys(("stop", "kill"), "stoppable"),
}
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "IMAGE": ("image",),
    "NETWORK": ("network",),
    "VOLUME": ("volume",),
    "CONTEXT": ("context",),
    "CONTEXT|ADDRESS": ("context",),
    "NAME:TAG|@DIGEST": ("image",),
    "NAME:TAG": ("image",),
    "REPOSITORY:TAG": ("image",),
    "SOURCE_IMAGE:TAG": ("image",),
    "TARGET_IMAGE:TAG": ("image",),
    "NAME|ID": ("container", "image", "network", "volume"),
    "FILE|-": FILES,
    "FILE": FILES,
    "file|URL|-": FILES,
    "SRC_PATH": FILES,
}
_NEW = ("create", "import")
"""Commands of groups whose argument is a name that does not exist yet."""
_STATUS = _words("created restarting running removing paused exited dead")
_FILTERS: dict[str, dict[str, tuple[str, ...]]] = {
    "ps": {
        **dict.fromkeys("ancestor before exited expose id label name network publish since volume".split(), ()),
        "health": _words("starting healthy unhealthy none"),
        "is-task": _words("true false"),
        "status": _STATUS,
    },
    "images": {**dict.fromkeys("before label reference since until".split(), ()), "dangling": _words("true false")},
    "network": {
        **dict.fromkeys("driver id label name".split(), ()),
        "dangling": _words("true false"),
        "scope": _words("local global swarm"),
        "type": _words("custom builtin"),
    },
    "volume": {**dict.fromkeys("driver label name".split(), ()), "dangling": _words("true false")},
    "events": {
        **dict.fromkeys("container daemon event image label network plugin scope volume".split(), ()),
        "type": _words("container daemon image network plugin volume"),
    },
    "search": {"is-official": _words("true false"), "stars": ()},
    "du": {
        **dict.fromkeys("description id parents until".split(), ()),
        **dict.fromkeys("immutable inuse mutable private shared".split(), _words("true false")),
        "type": _words("regular source.local source.git.checkout source.http exec.cachemount"),
    },
    "prune": dict.fromkeys("label label! until".split(), ()),
}


def of_flag(path: list[str], names: Iterable[str]) -> tuple[str, ...]:
    """The kinds of the value of a flag, known by all its names, of the command `path`."""
    if path[-1:] == ["cp"]:
        return ()
    if path[-1:] == ["build"] and "--output" in names:
        return _words("type=image type=local,dest= type=tar,dest= type=oci,dest= type=docker,dest=") + DIRECTORIES
    return next((_FLAGS[name] for name in names if name in _FLAGS), ())


def of_argument(path: list[str], usage: str, index: int) -> tuple[str, ...]:
    """The kinds of the argument number `index` of the command `path`, told from its line of usage."""
    command = path[-1]
    if command == "cp":
        return ("container:", *FILES)
    if command == "build":
        return DIRECTORIES
    if command == "completion":
        return _words("bash zsh fish")
    words = usage.split()
    if len(path) > 1 and command in _NEW and path[0] != "container":
        return _ARGUMENTS.get(words[index].strip("[]"), ()) if index and index < len(words) else ()
    if index >= len(words) and not (words and "..." in words[-1]):
        return ()
    word = words[min(index, len(words) - 1)].replace("[", "").replace("]", "").replace("...", "")
    if word == "CONTAINER":
        return (_CONTAINERS.get(command, "container"),)
    return _ARGUMENTS.get(word, ())


def filter_words(path: list[str], typed: str) -> list[str]:
    """The values of --filter: keys, and behind the key what it may be."""
    known = next((_FILTERS[word] for word in reversed(path) if word in _FILTERS), None)
    if known is None and path[-1:] in (["ls"], ["list"]):
        known = _FILTERS.get({"container": "ps", "image": "images"}.get(path[0], path[0]), {})
    key, equals, _ = typed.partition("=")
    if not equals:
        return [f"{name}=" for name in known or {}]
    return [f"{key}={value[1:]}" for value in (known or {}).get(key, ())]
