"""What RUN --mount asks for, made ready on the host for one command, and undone after it."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from hooper.api.build_graph import BindMount, CacheMount, Node, Run, RunMount, SecretMount, SshMount, TmpfsMount
from hooper.api.build_session import BuildSession
from hooper.api.errors import HooperError, InvalidArgument
from hooper.api.model import Container, MountPoint
from hooper.api.storage import Mount
from hooper.engine import build_secrets, build_ssh, cache_mounts
from hooper.engine.cache_mounts import CacheMounts
from hooper.engine.core import Core
from hooper.engine.host_mounts import HostMounts

if TYPE_CHECKING:
    from hooper.engine.build_files import Place
    from hooper.engine.build_runner import Output


class RunMounts:
    """For one command, whose container's record gets the mounts and variables."""

    def __init__(
        self,
        core: Core,
        host: HostMounts,
        caches: CacheMounts,
        container: Container,
        session: BuildSession,
        sources: Mapping[Node, Place],
        contents: Mapping[Node, str] | None,
    ) -> None:
        self._core, self._host, self._caches, self._container = core, host, caches, container
        self._session, self._sources, self._contents = session, sources, contents or {}
        self._stack = AsyncExitStack()
        self._scratch = core.host.data_root / "builds" / f"run-{container.id}"
        self._private: dict[str, str] = {}
        self._taken: dict[str, Path] = {}

    @asynccontextmanager
    async def ready(self, run: Run, output: Output) -> AsyncIterator[None]:
        """All is mounted on the host while this lasts; of two mounts at one target the later one counts."""
        mounts = _by_target(run.mounts)
        async with self._stack as stack:
            stack.push_async_callback(self._remove_scratch)
            await self._take_caches(mounts.values(), output)
            stack.callback(self._host.release, self._container.id)
            for number, (target, mount) in enumerate(mounts.items()):
                await self._make(number, target, mount)
            yield

    async def _remove_scratch(self) -> None:
        if self._scratch.exists():
            with anyio.CancelScope(shield=True):
                arguments = {"path": str(self._scratch)}
                await self._core.workers.run("hooper.content.trees:remove_tree", arguments)

    async def _make(self, number: int, target: str, mount: RunMount) -> None:
        match mount:
            case BindMount():
                source = await self._bind(number, mount)
                self._add(target, source, rw=not mount.read_only)
            case CacheMount():
                place = self._taken[self._cache_key(mount)]
                self._add(target, str(place), rw=not mount.read_only)
            case TmpfsMount():
                words = ["exec", "dev", *([f"size={mount.size}"] if mount.size else [])]
                self._container.mounts.append(MountPoint(type="tmpfs", destination=target, options=",".join(words)))
            case SecretMount():
                await self._secret(number, target, mount)
            case SshMount():
                await self._agent(number, target, mount)

    def _add(self, target: str, source: str, *, rw: bool) -> None:
        point = MountPoint(type="bind", destination=target, source=source, rw=rw, propagation="rprivate")
        self._container.mounts.append(point)

    def _set(self, name: str, value: str) -> None:
        variables = [item for item in self._container.config.env or () if item.partition("=")[0] != name]
        self._container.config.env = [*variables, f"{name}={value}"]

    # --- files of other nodes -------------------------------------------------------------------------

    async def _bind(self, number: int, mount: BindMount) -> str:
        tree = self._tree(number, self._sources[mount.source])
        if mount.read_only:
            return self._below(number, tree, mount.path)
        layered = self._scratch / str(number)
        layered.mkdir(mode=0o700, parents=True)
        try:
            return self._below(number, self._overlaid(number, tree, layered), mount.path)
        except (OSError, HooperError) as error:
            if isinstance(error, InvalidArgument):
                raise
            # Where overlayfs cannot be: on overlayfs itself, or a network's file system.
            copied = layered / "copy"
            await copy(self._core, Path(tree), mount.path, copied)
            return str(copied)

    def _tree(self, number: int, place: Place) -> str:
        if isinstance(place, Path):
            return str(place)
        return self._host.snapshot(self._container.id, f"{number}-tree", place)

    def _overlaid(self, number: int, tree: str, directory: Path) -> str:
        """The tree with a layer on top, in `directory`, that takes what is written."""
        found = os.stat(tree)
        for name in ("upper", "work"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        upper = directory / "upper"
        # The root of an overlay looks as its upper directory does.
        os.chown(upper, found.st_uid, found.st_gid)
        upper.chmod(stat.S_IMODE(found.st_mode))
        os.utime(upper, ns=(found.st_atime_ns, found.st_mtime_ns))
        lower, above, work = (_escaped(str(path)) for path in (tree, upper, directory / "work"))
        words = [f"lowerdir={lower}", f"upperdir={above}", f"workdir={work}"]
        if self._core.host.kernel >= (5, 10):
            words.append("volatile")  # nothing of it has to survive
        name = f"{number}-written"
        return self._host.snapshot(self._container.id, name, [Mount("overlay", "overlay", tuple(words))])

    def _below(self, number: int, tree: str, path: str) -> str:
        inside = os.path.normpath(f"/{path}").lstrip("/")
        if not inside:
            return tree
        try:
            return self._host.below(self._container.id, f"{number}-below", tree, inside)
        except InvalidArgument as error:
            raise missing(path, error.why) from error

    # --- caches ---------------------------------------------------------------------------------------

    def _cache_key(self, mount: CacheMount) -> str:
        return cache_mounts.key(mount, self._content(mount))

    def _content(self, mount: CacheMount) -> str:
        if mount.source is None:
            return ""
        return f"{self._contents.get(mount.source, '')}/{os.path.normpath(f'/{mount.path}')}"

    async def _take_caches(self, mounts: Iterable[RunMount], output: Output) -> None:
        """In the order of their keys, so that no two commands wait for each other."""
        wanted = {self._cache_key(mount): mount for mount in mounts if isinstance(mount, CacheMount)}

        async def tell(text: str) -> None:
            await output(2, f"{text}\n".encode())

        for key, mount in sorted(wanted.items()):
            fill = None
            if mount.source is not None:
                fill = partial(copy, self._core, self._sources[mount.source], mount.path, directory=True)
            use = self._caches.use(mount, tell, content=self._content(mount), fill=fill)
            self._taken[key] = await self._stack.enter_async_context(use)

    # --- secrets and agents ---------------------------------------------------------------------------

    def _memory(self, *, executable: bool = False) -> str:
        """A directory in memory that root alone can read, for what is on no disk."""
        name = "programs" if executable else "secrets"
        if name not in self._private:
            words = ["nosuid", "nodev", "mode=0700", *([] if executable else ["noexec"])]
            try:
                self._private[name] = self._tmpfs(name, *words, "noswap")
            except OSError:  # Linux before 6.4
                self._private[name] = self._tmpfs(name, *words)
        return self._private[name]

    def _tmpfs(self, name: str, *words: str) -> str:
        return self._host.snapshot(self._container.id, name, [Mount("tmpfs", "tmpfs", words)])

    async def _secret(self, number: int, target: str, mount: SecretMount) -> None:
        content = await build_secrets.obtain(self._session, mount)
        if content is None:
            return
        if mount.env:
            self._set(mount.env, build_secrets.as_variable(mount, content))
        if mount.target:
            directory = self._memory(executable=bool(mount.mode & 0o111))
            path = os.path.join(directory, str(number))
            build_secrets.write(path, mount, content)
            self._add(target, path, rw=False)

    async def _agent(self, number: int, target: str, mount: SshMount) -> None:
        if not await build_ssh.has_agent(self._session, mount):
            return
        listening = build_ssh.listening(self._memory(), str(number), mount, self._session, self._core.log)
        self._add(target, await self._stack.enter_async_context(listening), rw=True)
        if not any(item.startswith("SSH_AUTH_SOCK=") for item in self._container.config.env or ()):
            self._set("SSH_AUTH_SOCK", target)


def _by_target(mounts: Sequence[RunMount]) -> dict[str, RunMount]:
    """Each with its clean target. What has none, a secret that is a variable alone, has a key that no path is."""
    found: dict[str, RunMount] = {}
    agents = 0
    for number, mount in enumerate(mounts):
        target = mount.target
        if isinstance(mount, SshMount):
            target = target or f"/run/buildkit/ssh_agent.{agents}"
            agents += 1
        if not target and isinstance(mount, SecretMount):
            found[f"\0{number}"] = mount
            continue
        clean = os.path.normpath(f"/{target.lstrip('/')}")
        if not target.startswith("/") or clean == "/":
            raise InvalidArgument(
                f'invalid mount target "{target}"', "it has to be an absolute path below /", "Choose another one."
            )
        found[clean] = mount
    return found


def _escaped(path: str) -> str:
    """As overlayfs reads it in a list."""
    for char in "\\:,":
        path = path.replace(char, f"\\{char}")
    return path


def missing(path: str, why: str) -> InvalidArgument:
    """The error of a source that is not there."""
    return InvalidArgument(f'cannot mount "{path}"', why, "Name a path that the source has, below its root.")


# --- copies ---------------------------------------------------------------------------------------


async def copy(core: Core, place: Place, path: str, target: Path, *, directory: bool = False) -> None:
    """Copies what a place has at `path` to `target`, which is not there yet."""
    from hooper.engine.build_files import root_of

    arguments = {**root_of(place), "path": path, "target": str(target), "directory": directory}
    await core.workers.run("hooper.engine.build_mounts:copy_out", arguments)


def copy_out(arguments: dict[str, Any], fds: Sequence[int]) -> None:
    """Worker: see `copy`. InvalidArgument if there is nothing, or not a directory where one has to be."""
    from hooper.content.mounting import open_in_root, open_tree, private_namespace
    from hooper.content.trees import TreeCopier

    private_namespace()
    tree, path, target = open_tree(arguments), arguments["path"], os.fsencode(arguments["target"])
    try:
        source = open_in_root(tree, os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise missing(path, (error.strerror or str(error)).lower()) from error
    found = os.fstat(source)
    if stat.S_ISDIR(found.st_mode):
        TreeCopier().copy_directory(source, target, found)
    elif arguments["directory"] or not stat.S_ISREG(found.st_mode):
        raise missing(path, "it is no directory")
    else:
        TreeCopier().copy_file(source, target, found)
