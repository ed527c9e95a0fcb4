"""Scripts that serve as models: most containers' differ in nothing but the container's id.

To write one takes longer than anything else about a start; to write another id into one that is there, next to nothing.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import NamedTuple

import msgspec

from hooper.api.isolation import Bundle
from hooper.linux.cgroups import Cgroup
from hooper.linux.script import Program
from hooper_isolation_namespaces import drafting
from hooper_isolation_namespaces.attempting import Draft, possible
from hooper_isolation_namespaces.drafting_files import Unusual

_MOST = 32
"""How many are kept, those used last."""
_SHORT = 12
"""Characters of an id that make a host name."""
_ID, _SHORT_ID = b"\0id", b"\0short id"
"""What stands for them where containers are compared: JSON has no such bytes."""


class _Model(NamedTuple):
    drafted: drafting.Drafted | None
    """None: such a container is none for a script."""
    ids: tuple[int, ...]
    """Where in the data the id is, and its beginning where that stands alone."""
    short_ids: tuple[int, ...]


_models: OrderedDict[tuple[object, ...], _Model] = OrderedDict()
_encoder, _draft_encoder = msgspec.json.Encoder(enc_hook=str), msgspec.msgpack.Encoder()


def written(bundle: Bundle, cgroup: Cgroup, last_capability: int) -> bytes:
    """The draft of a container, encoded; empty if it is none for a script, or none runs here."""
    if not possible():
        return b""
    try:
        texts = drafting.root_texts(bundle.rootfs)
        drafted = draft(bundle, cgroup, last_capability)
    except Unusual:
        return b""
    resources = None if drafted.makes_cgroup else bundle.spec.linux.resources
    score = drafting.oom_score(bundle)
    return _draft_encoder.encode(Draft(*drafted, texts, bundle.spec.process.user, resources, score))


def draft(bundle: Bundle, cgroup: Cgroup, last_capability: int) -> drafting.Drafted:
    """As `drafting.draft`."""
    key = _key(bundle)
    model = _models.get(key)
    if model is None:
        model = _models[key] = _made(bundle, cgroup, last_capability)
        if len(_models) > _MOST:
            _models.popitem(last=False)
    else:
        _models.move_to_end(key)
    if model.drafted is None:
        raise Unusual
    return model.drafted._replace(program=_copy(model.drafted.program, model, bundle.id.encode()))


def _key(bundle: Bundle) -> tuple[object, ...]:
    """Of all that `drafting` looks at, but for the id and the directories of the snapshot."""
    name = bundle.id.encode()
    spec = _encoder.encode((bundle.spec, bundle.directory))
    roots = [(mount.type, [word for word in mount.options if "dir=" not in word]) for mount in bundle.rootfs]
    bound = tuple(os.path.isdir(mount.source) for mount in bundle.spec.mounts if mount.source.startswith("/"))
    text = spec.replace(name, _ID).replace(name[:_SHORT], _SHORT_ID)
    return text, str(roots), bound, bundle.init, len(name)


def _made(bundle: Bundle, cgroup: Cgroup, last_capability: int) -> _Model:
    try:
        drafted = drafting.draft(bundle, cgroup, os.uname().machine, last_capability)
    except Unusual:
        return _Model(None, (), ())
    name = bundle.id.encode()
    data = drafted.program.data
    return _Model(drafted, _found(data, name), _found(data.replace(name, bytes(len(name))), name[:_SHORT]))


def _found(data: bytes, text: bytes) -> tuple[int, ...]:
    places = []
    at = data.find(text)
    while at >= 0:
        places.append(at)
        at = data.find(text, at + len(text))
    return tuple(places)


def _copy(program: Program, model: _Model, name: bytes) -> Program:
    data = bytearray(program.data)
    for place in model.ids:
        data[place : place + len(name)] = name
    for place in model.short_ids:
        data[place : place + _SHORT] = name[:_SHORT]
    return msgspec.structs.replace(program, data=bytes(data))
