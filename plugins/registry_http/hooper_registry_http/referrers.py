"""What refers to a manifest, on registries without the referrers API: an index under a tag that stands in for it
(distribution-spec, "Referrers Tag Schema" and "Pushing Manifests with Subject")."""

from __future__ import annotations

from typing import Any

import msgspec

from hooper.api.errors import Conflict
from hooper.api.manifests import ACCEPTED, OCI_INDEX
from hooper.api.registry import Descriptor
from hooper_registry_http.endpoint import Endpoint
from hooper_registry_http.failures import check
from hooper_registry_http.scopes import push


def fallback_tag(digest: str) -> str:
    """The tag of the list of those that refer to the digest."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


async def add(endpoint: Endpoint, repository: str, name: str, subject: str, referrer: Descriptor) -> None:
    """Adds an entry to the list of a subject, unless it has it. `repository` is as the registry calls it, `name` for
    messages. Conflict if the tag is something else. Of two that change a list at one moment the later one holds."""
    path, what = f"/v2/{repository}/manifests/{fallback_tag(subject)}", f"referrers of {subject}"
    scopes = (push(repository),)
    response = await endpoint.request("GET", path, scopes, {"Accept": ", ".join(ACCEPTED)})
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    if response.status_code != 404:
        check(response, (200,), endpoint.host, name, what, pushing=True)
        index = _checked(endpoint.decode(response, dict[str, Any]), name, subject)
    # Others' entries stay as they are, with members that are not known here.
    if any(entry.get("digest") == referrer.digest for entry in index["manifests"]):
        return
    index["manifests"].append(msgspec.to_builtins(referrer))
    headers = {"Content-Type": OCI_INDEX}
    response = await endpoint.request("PUT", path, scopes, headers, content=msgspec.json.encode(index))
    check(response, (200, 201, 202), endpoint.host, name, what, pushing=True)


def _checked(index: dict[str, Any], name: str, subject: str) -> dict[str, Any]:
    entries = index.get("manifests")
    if (
        index.get("mediaType", OCI_INDEX) != OCI_INDEX
        or not isinstance(entries, list)
        or not all(isinstance(entry, dict) for entry in entries)
    ):
        raise Conflict(
            f"cannot list what refers to {subject} in {name}",
            f"its tag {fallback_tag(subject)} is no index of referrers",
            "Remove that tag, and push again.",
        )
    return index
