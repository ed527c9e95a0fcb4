"""Signatures of images, for a person: hooper's own."""

from __future__ import annotations

import msgspec

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument
from hooper_api_docker.bodies import read_json, registry_auth
from hooper_api_docker.http import Request, Response


class _Wish(msgspec.Struct, rename="pascal"):
    keys: list[str]
    """In PEM."""
    identities: list[str] = []


_WISH = msgspec.json.Decoder(_Wish)


async def verify(engine: Engine, request: Request, name: str) -> Response:
    """POST /hooper/images/NAME/verify."""
    wish = await read_json(request, _WISH)
    if not wish.keys:
        raise InvalidArgument(f"cannot verify {name}", "no key is given", "Give a public key in PEM.")
    found = await engine.images.verify(name, wish.keys, identities=wish.identities, credentials=registry_auth(request))
    return Response(200, {**msgspec.to_builtins(found), "Good": found.good})
