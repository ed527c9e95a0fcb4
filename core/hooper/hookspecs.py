"""Every hook, on one page.

A plugin is a module (or object) in an entry point of the group `hooper.plugins`; a plugin of the command
line is one of the group `hooper.cli`, read by the client alone. Hooks are called once, when the
plugin is loaded. They only *name* drivers: nothing is opened, and a driver's own module is not
imported until the host's configuration selects it.

    # pyproject.toml of a plugin
    [project.entry-points."hooper.plugins"]
    storage-example = "hooper_storage_example.plugin"
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from hooper.api.specs import CommandSpec, DriverSpec

PLUGIN_GROUP = "hooper.plugins"
CLI_GROUP = "hooper.cli"

hookspec = pluggy.HookspecMarker("hooper")
hookimpl = pluggy.HookimplMarker("hooper")


class EngineHooks:
    """Hooks of the group `hooper.plugins`."""

    @hookspec
    def hooper_register_storage_drivers(self) -> Iterable[DriverSpec]:
        """Storage drivers: subclasses of `hooper.api.storage.StorageDriver`.

        Example:
            @hookimpl
            def hooper_register_storage_drivers():
                yield DriverSpec("example", "keeps snapshots as copies",
                                 factory="hooper_storage_example.driver:ExampleDriver")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_network_drivers(self) -> Iterable[DriverSpec]:
        """Network drivers: subclasses of `hooper.api.network.NetworkDriver`.

        Example:
            @hookimpl
            def hooper_register_network_drivers():
                yield DriverSpec("bridge", "a Linux bridge with NAT",
                                 factory="hooper_net_bridge.driver:BridgeDriver",
                                 config="hooper_net_bridge.config:BridgeConfig")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_isolation_backends(self) -> Iterable[DriverSpec]:
        """Isolation backends: subclasses of `hooper.api.isolation.IsolationBackend`.

        Example:
            @hookimpl
            def hooper_register_isolation_backends():
                yield DriverSpec("runc", "an OCI runtime program",
                                 factory="hooper_isolation_oci.backend:RuncBackend")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_registries(self) -> Iterable[DriverSpec]:
        """Registries: subclasses of `hooper.api.registry.RegistryDriver`.

        Example:
            @hookimpl
            def hooper_register_registries():
                yield DriverSpec("http", "the distribution protocol over HTTP",
                                 factory="hooper_registry_http.driver:HttpRegistry")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_builders(self) -> Iterable[DriverSpec]:
        """Builders: subclasses of `hooper.api.builder.Builder`.

        Example:
            @hookimpl
            def hooper_register_builders():
                yield DriverSpec("dockerfile", "Dockerfiles",
                                 factory="hooper_builder_dockerfile.builder:DockerfileBuilder")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_api_frontends(self) -> Iterable[DriverSpec]:
        """API front-ends: subclasses of `hooper.api.frontend.Frontend`.

        Example:
            @hookimpl
            def hooper_register_api_frontends():
                yield DriverSpec("docker", "the Docker Engine API",
                                 factory="hooper_api_docker.frontend:DockerFrontend")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_log_drivers(self) -> Iterable[DriverSpec]:
        """Log drivers: subclasses of `hooper.api.logs.LogDriver`.

        Example:
            @hookimpl
            def hooper_register_log_drivers():
                yield DriverSpec("json-file", "a JSON object a line",
                                 factory="hooper_log_jsonfile.driver:JsonFileDriver")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_volume_drivers(self) -> Iterable[DriverSpec]:
        """Volume drivers: subclasses of `hooper.api.volume.VolumeDriver`.

        Example:
            @hookimpl
            def hooper_register_volume_drivers():
                yield DriverSpec("local", "a directory on this host",
                                 factory="hooper_volume_local.driver:LocalVolumes")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_event_subscribers(self) -> Iterable[DriverSpec]:
        """Event subscribers: subclasses of `hooper.api.frontend.Subscriber`.

        Example:
            @hookimpl
            def hooper_register_event_subscribers():
                yield DriverSpec("webhook", "posts events to an URL",
                                 factory="hooper_webhook.subscriber:Webhook")
        """
        raise NotImplementedError

    @hookspec
    def hooper_register_image_policies(self) -> Iterable[DriverSpec]:
        """Image policies: subclasses of `hooper.api.policy.ImagePolicy`.

        Example:
            @hookimpl
            def hooper_register_image_policies():
                yield DriverSpec("office-hours", "pulls nothing at night",
                                 factory="hooper_office_hours.policy:OfficeHours")
        """
        raise NotImplementedError


class CliHooks:
    """Hooks of the group `hooper.cli`."""

    @hookspec
    def hooper_register_cli_commands(self) -> Iterable[CommandSpec]:
        """Commands of the `hooper` program.

        Example:
            @hookimpl
            def hooper_register_cli_commands():
                yield CommandSpec("audit", "shows who ran what", factory="hooper_audit.cli:audit")
        """
        raise NotImplementedError
