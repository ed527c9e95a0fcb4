"""Pulling an image: for `pull`, and for `run` and `create` where an image is missing."""

from __future__ import annotations

from typing import TextIO

from hooper.api.reference import Reference
from hooper.cli.credentials import registry_auth
from hooper.cli.progress import checked, show_progress
from hooper.client.api import ApiClient


def pull_image(
    client: ApiClient,
    image: str,
    *,
    platform: str = "",
    quiet: bool = False,
    all_tags: bool = False,
    file: TextIO | None = None,
) -> Reference:
    """Pulls `image` and shows how; the reference that was pulled. ApiError, InvalidArgument."""
    reference = Reference.parse(image)
    if not all_tags:
        reference = reference.with_default_tag()
    query = {
        "fromImage": reference.familiar_name,
        "tag": reference.digest or reference.tag or None,
        "platform": platform or None,
    }
    headers = registry_auth(reference.host)
    messages = client.json_lines("POST", "/images/create", query, headers=headers)
    if quiet:
        for _ in checked(messages):
            pass
    else:
        show_progress(messages, file)
    return reference
