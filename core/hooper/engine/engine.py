"""The engine, put together from a host's configuration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from hooper.api.builder import Builder, BuildRequest
from hooper.api.driver import Driver, DriverContext, HostInfo
from hooper.api.engine import Engine
from hooper.api.errors import HooperError, Unsupported
from hooper.api.layout import scheme_of
from hooper.api.logs import CACHE, LogDriver
from hooper.api.registry import RegistryDriver
from hooper.api.specs import DriverSpec, Kind
from hooper.config import Config
from hooper.content.store import ContentStore
from hooper.engine import log_targets
from hooper.engine.build_cache import BuildCache
from hooper.engine.build_cache_directories import MountDirectories
from hooper.engine.build_cache_limits import CacheLimits, bounds_of
from hooper.engine.build_contexts import Contexts, context_limit
from hooper.engine.build_runner import BuildRunner
from hooper.engine.builds import BuildService
from hooper.engine.containers import ContainerService
from hooper.engine.core import Core
from hooper.engine.events import EventService
from hooper.engine.gc import Collector
from hooper.engine.images import ImageService
from hooper.engine.init_layer import InitLayers
from hooper.engine.launch import USUAL_NETNS
from hooper.engine.name_service import NameService
from hooper.engine.networks import NetworkService
from hooper.engine.short_names import ShortNames
from hooper.engine.store import ContainerStore
from hooper.engine.strays import sweep
from hooper.engine.system import SystemService
from hooper.engine.volumes import VolumeService
from hooper.linux import apparmor
from hooper.linux.host import host_info
from hooper.plugins.manager import PluginTable, load_plugins
from hooper.plugins.selection import Selector, imported
from hooper.runtime.client import Launcher
from hooper.runtime.workers import ForkedWorkers
from hooper.state.database import Database, DriverState
from hooper.state.lock import RootLock

if TYPE_CHECKING:
    from hooper.api.policy import ImagePolicy
    from hooper.engine.image_places import PlaceService
    from hooper.engine.moving import MovingService
    from hooper.engine.stored_content import StoredContent


class LocalEngine(Engine):
    """The use cases on this host's drivers."""

    def __init__(
        self,
        core: Core,
        containers: ContainerService,
        system: SystemService,
        builds: BuildService,
        init_layers: InitLayers,
        database: Database,
    ) -> None:
        self.core = core
        self._init_layers, self._database = init_layers, database
        self.containers: ContainerService = containers
        self.images = core.images
        self.networks = core.networks
        self.volumes = core.volumes
        self.events = core.events
        self.system: SystemService = system
        self.builds = builds

    @cached_property
    def moving(self) -> MovingService:
        """Made when it is first used."""
        from hooper.engine.moving import MovingService

        return MovingService(self.core, self.containers, self._init_layers, self._database, self.system.engine_id)

    @cached_property
    def content(self) -> StoredContent:
        """Made when it is first used."""
        from hooper.engine.stored_content import StoredContent

        return StoredContent(self.core.images)

    @cached_property
    def places(self) -> PlaceService:
        """Made when it is first used."""
        from hooper.engine.image_places import PlaceService

        return PlaceService(self.core.images)

    async def recover_moves(self) -> set[str]:
        """Finishes or undoes moves that an earlier daemon left; ids of containers that wait for their commit."""
        arriving = self._database.row("SELECT 1 FROM transfers WHERE document!=x''")
        if arriving is None and not any(container.moving for container in self.core.store.all()):
            return set()
        return await self.moving.recover()


class Parts:
    """Makes drivers and closes them at the end."""

    workers: ForkedWorkers
    """Set before the first driver is made."""

    def __init__(self, host: HostInfo, database: Database, log: Any) -> None:
        self.host, self.database, self.log = host, database, log
        self.engine: LocalEngine | None = None
        self._open: list[Driver] = []

    def context(self, kind: Kind, spec: DriverSpec, settings: Any) -> DriverContext:
        name = f"{kind}-{spec.name}"
        data_dir = self.host.data_root / "drivers" / name
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        exec_dir = self.host.exec_root / "drivers" / name
        exec_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return DriverContext(
            name=spec.name,
            config=settings,
            host=self.host,
            data_dir=data_dir,
            exec_dir=exec_dir,
            state=DriverState(self.database, name),
            workers=self.workers,
            log=self.log.bind(driver=name),
        )

    def make(self, kind: Kind, spec: DriverSpec, settings: Any) -> Any:
        factory = imported(spec.factory)
        if kind in (Kind.ISOLATION, Kind.LOG):
            return factory(spec.name, settings)
        context = self.context(kind, spec, settings)
        if kind is Kind.FRONTEND:
            return factory(context, self.engine)
        driver = factory(context)
        if isinstance(driver, Driver):
            self._open.append(driver)
        return driver

    async def aclose(self) -> None:
        for driver in reversed(self._open):
            try:
                await driver.aclose()
            # One driver's failure must not keep the others open.
            except Exception as error:
                self.log.warning("driver did not close", driver=driver.context.name, error=str(error))


@asynccontextmanager
async def open_engine(config: Config, log: Any) -> AsyncIterator[tuple[LocalEngine, Selector]]:
    """Opens everything that the configuration names and takes over what an earlier daemon left running."""
    data_root, exec_root = Path(config["daemon.data_root"]), Path(config["daemon.exec_root"])
    async with AsyncExitStack() as stack:
        stack.enter_context(RootLock(data_root, exec_root))
        database = Database(data_root / "hooper.db")
        stack.callback(database.close)
        host = host_info(data_root, exec_root)
        table = load_plugins(config["plugins.disabled"])
        parts = Parts(host, database, log)
        selector = Selector(table, config, parts.make, host)
        launcher = await stack.enter_async_context(_launcher(selector, host, log))
        confining = asyncio.ensure_future(_confine(log))
        stack.callback(confining.cancel)
        parts.workers = ForkedWorkers(launcher)
        stack.push_async_callback(parts.aclose)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        engine = await _assemble(selector, parts, launcher, tasks, table, log)
        if engine.core.networks.names is not None:
            stack.callback(engine.core.networks.names.aclose)
        await launcher.start()
        await confining
        await engine.containers.lifecycle.reconcile()
        await engine.containers.lifecycle.starter.sources.reconcile(set(engine.containers.lifecycle.live))
        await sweep(engine.core, await engine.recover_moves())
        yield engine, selector


async def _confine(log: Any) -> None:
    """Gives containers' usual AppArmor profile to the kernel. It goes on without it: there is more that confines."""
    try:
        await anyio.to_thread.run_sync(apparmor.prepare)
    except HooperError as error:
        log.warning("containers run without an AppArmor profile of their own", error=str(error))


@asynccontextmanager
async def _launcher(selector: Selector, host: HostInfo, log: Any) -> AsyncIterator[Launcher]:
    backends = selector.declared(Kind.ISOLATION)
    loggers = selector.declared(Kind.LOG)
    default_logger, _ = await selector.choose(Kind.LOG)
    launcher = Launcher(backends, loggers, host, log, default_logger.spec.name, USUAL_NETNS)
    # Its start takes as long as all the rest of the daemon's: at the same time, and its outcome is awaited later.
    starting = asyncio.ensure_future(launcher.start())
    starting.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        yield launcher
    finally:
        starting.cancel()
        await launcher.aclose()


async def _assemble(
    selector: Selector, parts: Parts, launcher: Launcher, tasks: Any, table: PluginTable, log: Any
) -> LocalEngine:
    host, database = parts.host, parts.database
    storage_record, storage = await selector.choose(Kind.STORAGE)
    runtime, _ = await selector.choose_isolation("")
    logs = await _logs(selector)
    volume_record, volume_driver = await selector.choose(Kind.VOLUME)
    events, store = EventService(), ContainerStore(database)
    content = ContentStore(host.data_root / "content")
    init_layers = InitLayers(storage, parts.workers)
    collector = Collector(database, content, storage, init_layers.drop)
    networks = await _networks(selector, database, events, host, log)
    images = ImageService(
        database,
        content,
        storage,
        storage_record.spec.name,
        _registries(selector),
        events.emit,
        parts.workers,
        collector,
        log,
    )
    await _configure(images, selector, log)
    core = Core(
        host=host,
        storage=storage,
        storage_name=storage_record.spec.name,
        launcher=launcher,
        workers=parts.workers,
        store=store,
        images=images,
        networks=networks,
        volumes=VolumeService(
            database,
            {**await selector.every(Kind.VOLUME), volume_record.spec.name: volume_driver},
            volume_record.spec.name,
            events,
        ),
        events=events,
        selector=selector,
        log_drivers=logs.drivers,
        default_log_driver=logs.default,
        default_log_options=logs.options,
        log_cache=logs.cache,
        default_runtime=runtime.spec.name,
        tasks=tasks,
        log=log,
        runtimes={runtime.spec.name},
    )
    await networks.ensure_defaults()
    containers = ContainerService(core, init_layers)
    images.containers_using = containers.using_image
    builds, limits = await _builds(selector, core, init_layers, containers, database, collector)
    core.background(limits.collect)
    system = SystemService(core, table, database, limits)
    engine = LocalEngine(core, containers, system, builds, init_layers, database)
    parts.engine = engine
    return engine


class _Logs(NamedTuple):
    """Every log driver by name, that of containers that name none and its options, and that which keeps copies."""

    drivers: dict[str, LogDriver]
    default: str
    options: dict[str, str]
    cache: str


async def _logs(selector: Selector) -> _Logs:
    record, _ = await selector.choose(Kind.LOG)
    drivers: dict[str, LogDriver] = await selector.every(Kind.LOG)
    options = log_targets.defaults(selector.config["log.options"])
    cache = selector.capable(Kind.LOG, CACHE)
    log_targets.check(drivers, cache, record.spec.name, options)
    return _Logs(drivers, record.spec.name, options, cache)


async def _networks(
    selector: Selector, database: Database, events: EventService, host: HostInfo, log: Any
) -> NetworkService:
    networks = NetworkService(
        database,
        await selector.every(Kind.NETWORK),
        events.emit,
        log,
        selector.config["network.driver"],
        selector.config["network.default_address_pools"],
    )
    networks.names = NameService(networks, host.exec_root, log)
    return networks


async def _configure(images: ImageService, selector: Selector, log: Any) -> None:
    """Policies, and how short names are meant."""
    if selector.config["policy.enabled"]:
        from hooper.engine.policy import open_gate

        images.guard(await open_gate(selector, images.store, images.registry_for, log))
    images.policy_verifier = _verifier(selector)
    images.store.short_names = ShortNames(selector.config["registry.search"], selector.config["registry.short_names"])


def _verifier(selector: Selector) -> Callable[[], Awaitable[ImagePolicy]]:
    """Finds a policy that verifies signatures, enabled or not."""
    opened: list[ImagePolicy] = []

    async def find() -> ImagePolicy:
        from hooper.api.policy import VERIFY

        for record in selector.table.of(Kind.POLICY):
            if not opened and record.usable and VERIFY in record.spec.capabilities:
                driver = await selector.attempt(record)
                opened.extend([driver] if driver is not None else [])
        if not opened:
            raise Unsupported("no image policy here verifies signatures", remedy="`hooper plugin doctor` tells why.")
        return opened[0]

    return find


async def _builds(
    selector: Selector,
    core: Core,
    init_layers: InitLayers,
    containers: ContainerService,
    database: Database,
    collector: Collector,
) -> tuple[BuildService, CacheLimits]:
    """Builds, and the bounds of what they leave behind."""
    config, directory = selector.config, core.host.data_root / "builds"
    runner = BuildRunner(core, init_layers, containers.lifecycle.live)
    contexts = Contexts(core.workers, directory, limit=context_limit(config["builder.context_limit"]))
    cache = BuildCache(database, core.images.layers.driver)
    bounds = bounds_of(config["builder.cache_size"], config["builder.cache_age"], core.host.data_root)
    limits = CacheLimits(
        database,
        cache,
        collector,
        bounds,
        core.host.data_root,
        lambda: [MountDirectories(runner.caches), *contexts.kept],
        core.log,
    )
    builds = BuildService(
        core.images,
        core.storage,
        core.workers,
        await _builders(selector),
        runner,
        contexts,
        limits,
        cache,
        directory,
        core.events.emit,
        core.background,
    )
    return builds, limits


async def _builders(selector: Selector) -> Callable[[BuildRequest], Awaitable[Builder]]:
    """Finds the builder of a request. One that the configuration names must work now, others when they are wanted."""
    opened: dict[str, Builder] = {}
    if selector.config["builder.driver"] != "auto":
        opened[""] = (await selector.choose(Kind.BUILDER))[1]

    async def builder_for(request: BuildRequest) -> Builder:
        name = request.builder or selector.claiming(Kind.BUILDER, "recipe", request.recipe)
        if name not in opened:
            opened[name] = (await selector.choose(Kind.BUILDER, name))[1]
        return opened[name]

    return builder_for


def _registries(selector: Selector) -> Any:
    hosts: dict[str, str] = selector.config["registry.hosts"]
    opened: dict[str, RegistryDriver] = {}

    async def registry_for(host: str) -> RegistryDriver:
        scheme = scheme_of(host)
        name = selector.claiming(Kind.REGISTRY, "scheme", scheme) if scheme else hosts.get(host, "")
        if scheme and not name:
            raise Unsupported(f"cannot use {host}", "no registry driver knows its scheme", "Enable the one that does.")
        if name not in opened:
            opened[name] = (await selector.choose(Kind.REGISTRY, name))[1]
        return opened[name]

    return registry_for
