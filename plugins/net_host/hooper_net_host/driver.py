"""Networks that need nothing made. What tells them apart is whose namespace a container lives in."""

from __future__ import annotations

from hooper.api.network import Endpoint, JoinResult, Network, NetworkDriver, Sandbox, SandboxMode


class _Trivial(NetworkDriver):
    addresses = False
    user_defined = False

    async def create_network(self, network: Network) -> Network:
        return network

    async def delete_network(self, network: Network) -> None:
        return None

    async def join(self, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> JoinResult:
        return JoinResult()

    async def leave(self, network: Network, endpoint: Endpoint, sandbox: Sandbox | None) -> None:
        return None


class HostDriver(_Trivial):
    """The host's interfaces and ports. Published ports mean nothing here."""

    sandbox = SandboxMode.HOST
    predefined = ("host",)


class NullDriver(_Trivial):
    """A namespace with its own loopback interface, which whoever makes the sandbox has set up."""

    predefined = ("none",)


class ContainerDriver(_Trivial):
    """container:NAME. The engine finds the other container and hands its namespace on."""

    sandbox = SandboxMode.SHARED
