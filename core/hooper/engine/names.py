"""Ids and the names of containers that were given none."""

from __future__ import annotations

import os
import random
import re

from hooper.api.errors import InvalidArgument

_ADJECTIVES = (
    "able amber ample brave bright brisk calm candid clever cosy deft eager early fair firm fond frank fresh "
    "gentle glad golden grand happy hardy honest jolly keen kind lively loyal lucky mellow merry mild modest neat "
    "noble patient plain polite proud quick quiet ready robust royal rustic sharp silent silver sober solid sound "
    "steady stout sturdy sunny swift tidy tough trim trusty upright vivid warm wise witty"
).split()
_NOUNS = (
    "adze ale anvil auger awl barrel barrow basket bellows bench bevel bobbin bucket bung buoy cask chest chisel "
    "churn cider clamp coffer cooper crate cresset croze distaff dowel drum firkin flagon forge gimlet hamper hammer "
    "hoop jointer keg kettle ladle lantern lathe loom mallet mortar oak pail pannier plane puncheon quill rivet "
    "saddle shuttle sickle spigot spindle stave tankard tenon thimble tierce trestle trowel tub vat vise wagon "
    "wedge wheel whisk willow winch"
).split()
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


def new_id() -> str:
    """64 hex digits."""
    return os.urandom(32).hex()


def random_name() -> str:
    """A name such as "brave_cooper"; a digit keeps later tries apart."""
    return f"{random.choice(_ADJECTIVES)}_{random.choice(_NOUNS)}{random.randrange(100)}"


def check_name(name: str) -> str:
    """The name without a leading slash; InvalidArgument if it is not one."""
    bare = name.removeprefix("/")
    if not _NAME.match(bare):
        raise InvalidArgument(
            f"Invalid container name ({name})",
            "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, and at least two characters",
            'For example "web-1".',
        )
    return bare
