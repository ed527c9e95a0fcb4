"""The host's interfaces that networks are on: found, or made and removed again.

What we make (a VLAN such as eth0.10, or for a network without a parent an interface that leads nowhere) is recorded
before it is made. It goes with the last network on it.
"""

from __future__ import annotations

import errno

from hooper.api.driver import KeyValueStore
from hooper.api.errors import Conflict, InvalidArgument, Unsupported
from hooper.api.network import Network
from hooper.linux import netlink_route as route
from hooper.linux.netlink import NETLINK_ROUTE, Message, NetlinkSocket
from hooper_net_macvlan import options

_MADE, _USED = "made/", "network/"
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTSUP)


class Parents:
    """Its calls block, for a millisecond mostly. They raise OSError for what the kernel refuses."""

    def __init__(self, state: KeyValueStore) -> None:
        self._state = state
        self._socket = NetlinkSocket(NETLINK_ROUTE)

    def close(self) -> None:
        self._socket.close()

    def index(self, name: str) -> int:
        link = route.find_link(self._socket, name)
        if link is None:
            raise OSError(errno.ENODEV, f"the interface {name} is gone")
        return link.index

    def claim(self, network: Network, name: str, *, exclusive: bool) -> str:
        """The parent of a network is there: `name`, or if that is "" one of its own. Returns its name.

        Conflict if another network is there already and one of them wants it for itself alone (`exclusive`).
        """
        own = name or f"hpm-{network.id[:10]}"
        others = [mode for key, mode in self._users(own).items() if key != network.id]
        if others and (exclusive or b"exclusive" in others):
            raise Conflict(
                f"network {network.name}: the parent {own} is in use", "one of its networks takes all of it",
                "Choose another parent, or another mode than passthru.",
            )  # fmt: skip
        if route.find_link(self._socket, own) is None:
            self._make(own, leads_nowhere=not name)
        self._state.put(_USED + network.id, own.encode() + (b" exclusive" if exclusive else b" shared"))
        return own

    def release(self, network: Network) -> None:
        """The inverse; harmless if the network has none."""
        value = self._state.get(_USED + network.id)
        if value is None:
            return
        name = value.decode().split()[0]
        if len(self._users(name)) == 1 and self._state.get(_MADE + name) is not None:
            self._delete(name)
            self._state.delete(_MADE + name)
        self._state.delete(_USED + network.id)

    def _users(self, name: str) -> dict[str, bytes]:
        """How each network uses this parent."""
        found = {}
        for key, value in self._state.items(_USED):
            parent, mode = value.split()
            if parent == name.encode():
                found[key.removeprefix(_USED)] = mode
        return found

    def _make(self, name: str, *, leads_nowhere: bool) -> None:
        messages = self._nowhere(name) if leads_nowhere else [self._vlan(name)]
        self._state.put(_MADE + name, b"")
        try:
            self._first_possible(name, messages)
        except BaseException:
            self._state.delete(_MADE + name)
            raise

    def _nowhere(self, name: str) -> list[Message]:
        """A kernel without dummies has bridges at least: one without ports leads nowhere, too."""
        return [route.new_dummy(name), route.new_bridge(name)]

    def _vlan(self, name: str) -> Message:
        wanted = options.vlan(name)
        lower = route.find_link(self._socket, wanted.parent)
        if lower is None:
            raise InvalidArgument(
                f"cannot make the VLAN {name}", f"the host has no interface {wanted.parent}", "`ip link` shows them."
            )
        return route.new_vlan(name, lower.index, wanted.number)

    def _first_possible(self, name: str, messages: list[Message]) -> None:
        for message in messages:
            try:
                return self._socket.request([message])
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
        raise Unsupported(f"cannot make the interface {name}", "this kernel has no VLANs (802.1Q)", "Load 8021q.")

    def _delete(self, name: str) -> None:
        try:
            self._socket.request([route.delete_link(name)])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
