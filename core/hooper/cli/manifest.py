"""`hooper manifest`: manifests as registries have them, and lists of several platforms that are made here.

A list is a file below the client's configuration until it is pushed; the daemon asks registries and brings blobs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.reference import Reference
from hooper.cli.command import command
from hooper.cli.credentials import all_auths
from hooper.cli.each import for_each
from hooper.cli.flags import flag, text, values
from hooper.cli.session import Session
from hooper.client.home import config_directory

_LIST_KINDS = ("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json")


@command("inspect", "[MANIFEST_LIST] MANIFEST")
@flag("--insecure", help="Allow an insecure registry; the daemon's configuration says which are")
@flag("-v", "--verbose", help="Output additional info including layers and platform")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], insecure: bool, verbose: bool) -> None:
    """Display an image manifest, or manifest list."""
    if len(names) > 2:
        raise InvalidArgument("inspect takes a manifest, and before it the list that it is in")
    if len(names) == 2:
        entry = _entry(_read(names[0]), names[1], names[0])
        print(_shown(_verbose(entry) if verbose else entry["Manifest"]))
        return
    if (kept := _read(names[0], missing=True)) is not None:
        entries = kept["Entries"]
        print(_shown([_verbose(entry) for entry in entries] if verbose else _index(entries)))
        return
    found = _fetch(session, names[0])
    if verbose:
        print(_shown(_all_verbose(session, names[0], found)))
        return
    print(_shown(json.loads(found["Content"])))


@command("create", "MANIFEST_LIST MANIFEST [MANIFEST...]")
@flag("-a", "--amend", help="Amend an existing manifest list")
@flag("--insecure", help="Allow an insecure registry; the daemon's configuration says which are")
@click.argument("target")
@click.argument("manifests", nargs=-1, required=True)
@click.pass_obj
def create(session: Session, target: str, manifests: tuple[str, ...], amend: bool, insecure: bool) -> None:
    """Create a local manifest list for annotating and pushing to a registry."""
    kept = _read(target, missing=True)
    if kept is not None and not amend:
        raise InvalidArgument(f"refusing to amend an existing manifest list with no --amend flag: {target}")
    entries = {entry["Ref"]: entry for entry in (kept or {"Entries": []})["Entries"]}
    for name in manifests:
        for entry in _taken(session, name):
            entries[entry["Ref"]] = entry
    _write(target, {"Entries": list(entries.values())})
    print(f"Created manifest list {Reference.parse(target).with_default_tag()}")


@command("annotate", "MANIFEST_LIST MANIFEST")
@text("--arch", help="Set architecture")
@text("--os", "system", help="Set operating system")
@values("--os-features", help="Set operating system feature", metavar="strings")
@text("--os-version", help="Set operating system version")
@text("--variant", help="Set architecture variant")
@click.argument("target")
@click.argument("manifest")
@click.pass_obj
def annotate(
    session: Session,
    target: str,
    manifest: str,
    arch: str,
    system: str,
    os_features: tuple[str, ...],
    os_version: str,
    variant: str,
) -> None:
    """Add additional information to a local image manifest."""
    kept = _read(target)
    platform = _entry(kept, manifest, target)["Platform"]
    given = {"architecture": arch, "os": system, "os.version": os_version, "variant": variant}
    platform.update({key: value for key, value in given.items() if value})
    if os_features:
        platform["os.features"] = [one for value in os_features for one in value.split(",")]
    _write(target, kept)


@command("push", "MANIFEST_LIST")
@flag("--insecure", help="Allow push to an insecure registry; the daemon's configuration says which are")
@flag("-p", "--purge", help="Remove the local manifest list after push")
@click.argument("target")
@click.pass_obj
def push(session: Session, target: str, insecure: bool, purge: bool) -> None:
    """Push a manifest list to a repository."""
    entries = _read(target)["Entries"]
    body = {
        "Target": str(Reference.parse(target).with_default_tag()),
        "Entries": [{"Ref": _by_digest(entry), "Platform": entry["Platform"]} for entry in entries],
        "Oci": all(_is_oci(entry) for entry in entries),
    }
    print(session.client.post("/hooper/images/manifest", body, headers=all_auths())["Digest"])
    if purge:
        _path(target).unlink()


@command("rm", "MANIFEST_LIST [MANIFEST_LIST...]")
@click.argument("targets", nargs=-1, required=True)
def rm(targets: tuple[str, ...]) -> int:
    """Delete one or more manifest lists from local storage."""

    def remove(target: str) -> None:
        _read(target)
        _path(target).unlink()

    return for_each(targets, remove, shown=False)


# --- what registries have -----------------------------------------------------------------------------


def _fetch(session: Session, name: str) -> dict[str, Any]:
    query = {"name": str(Reference.parse(name).with_default_tag())}
    found: dict[str, Any] = session.client.call("GET", "/hooper/images/manifest", query, headers=all_auths())
    return found


def _taken(session: Session, name: str) -> list[dict[str, Any]]:
    """The image under a name as entries of a list; of a list all its images."""
    found = _fetch(session, name)
    manifest, reference = json.loads(found["Content"]), Reference.parse(name).with_default_tag()
    if "manifests" not in manifest:
        return [_made(session, str(reference), found, manifest)]
    entries = []
    for child in manifest["manifests"]:
        if (child.get("platform") or {}).get("os") != "unknown":
            by_digest = f"{reference.name}@{child['digest']}"
            one = _fetch(session, by_digest)
            entries.append(_made(session, by_digest, one, json.loads(one["Content"]), child.get("platform")))
    return entries


def _made(
    session: Session, reference: str, found: dict[str, Any], manifest: dict[str, Any], platform: Any = None
) -> dict[str, Any]:
    descriptor = {**found["Descriptor"], "size": len(found["Content"].encode())}
    descriptor["mediaType"] = manifest.get("mediaType") or descriptor["mediaType"]
    if platform is None:
        platform = _platform(session, reference)
    return {"Ref": reference, "Descriptor": descriptor, "Manifest": manifest, "Platform": dict(platform)}


def _platform(session: Session, reference: str) -> dict[str, Any]:
    """As the image's configuration has it."""
    path = f"/distribution/{reference}/json"
    found: list[dict[str, Any]] = session.client.call("GET", path, headers=all_auths()).get("Platforms") or [{}]
    return found[0]


def _is_oci(entry: dict[str, Any]) -> bool:
    kind: str = entry["Descriptor"]["mediaType"]
    return kind.startswith("application/vnd.oci.")


def _by_digest(entry: dict[str, Any]) -> str:
    return f"{Reference.parse(entry['Ref']).name}@{entry['Descriptor']['digest']}"


# --- as it is shown -----------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    return json.dumps(value, indent=3)


def _index(entries: list[dict[str, Any]]) -> dict[str, Any]:
    oci = all(_is_oci(entry) for entry in entries)
    shown = [{**entry["Descriptor"], "platform": entry["Platform"]} for entry in entries]
    return {"schemaVersion": 2, "mediaType": _LIST_KINDS[oci], "manifests": shown}


def _verbose(entry: dict[str, Any]) -> dict[str, Any]:
    kind = "OCIManifest" if _is_oci(entry) else "SchemaV2Manifest"
    return {
        "Ref": entry["Ref"],
        "Descriptor": {**entry["Descriptor"], "platform": entry["Platform"]},
        kind: entry["Manifest"],
    }


def _all_verbose(session: Session, name: str, found: dict[str, Any]) -> Any:
    shown = [_verbose(entry) for entry in _taken(session, name)]
    return shown if "manifests" in json.loads(found["Content"]) else shown[0]


# --- lists kept here ----------------------------------------------------------------------------------


def _path(target: str) -> Path:
    # Quoted, so that a/b and a_b are two files.
    name = quote(str(Reference.parse(target).with_default_tag()), safe="")
    return Path(config_directory()) / "hooper-manifests" / f"{name}.json"


def _read(target: str, *, missing: bool = False) -> Any:
    """The list of that name; NotFound, or None if it may be `missing`."""
    try:
        return json.loads(_path(target).read_text())
    except FileNotFoundError:
        if missing:
            return None
        raise NotFound(f"No such manifest: {Reference.parse(target).with_default_tag().familiar}") from None


def _entry(kept: Any, manifest: str, target: str) -> Any:
    wanted = str(Reference.parse(manifest).with_default_tag())
    for entry in kept["Entries"]:
        if wanted in (entry["Ref"], _by_digest(entry)):
            return entry
    raise NotFound(f"manifest for image {manifest} does not exist in {target}")


def _write(target: str, kept: Any) -> None:
    path = _path(target)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(kept))
    partial.replace(path)
