"""Contexts: names for daemons. They are kept in docker's store, so that both programs know the same ones.

The store is the directory `contexts` beside docker's config.json: `meta/<sha256 of the name>/meta.json`
and, for TLS, `tls/<sha256>/docker/{ca,cert,key}.pem`. Which context hooper uses is its own affair
(`hooper.json` beside it): a `docker context use` is meant for docker's daemon, not for hooper's.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.client.address import Address, Tls, default_address, parse_address
from hooper.client.home import DEFAULT, chosen_context, chosen_file, config_directory, write_json

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")
_FILES = {"ca": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}
_MOST = 1 << 20
"""Bytes of the largest file that belongs to a context."""


class Context(NamedTuple):
    """A named daemon. `tls` holds the paths of the stored files; `metadata` is what else docker keeps."""

    name: str
    host: str
    description: str = ""
    tls: Tls | None = None
    metadata: Mapping[str, Any] = {}

    @property
    def address(self) -> Address:
        """Where the daemon listens; InvalidArgument if it cannot be understood."""
        return parse_address(self.host, self.tls)


def _store() -> Path:
    return Path(config_directory()) / "contexts"


def place(name: str) -> tuple[Path, Path]:
    """(directory of the meta data, directory of the TLS files) of a context, which need not exist."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return _store() / "meta" / digest, _store() / "tls" / digest


def load(name: str) -> Context:
    """The context of that name; NotFound says which there are, InvalidArgument that its file is damaged."""
    if name == DEFAULT:
        return Context(DEFAULT, str(default_address()), "The daemon of this host")
    path = place(name)[0] / "meta.json"
    try:
        return _read(path)
    except FileNotFoundError:
        known = ", ".join(context.name for context in everything())
        raise NotFound(f'context "{name}" not found', remedy=f"There are: {known}.") from None


def everything() -> list[Context]:
    """All contexts, the default one first, the others by name."""
    found = [_read(path) for path in (_store() / "meta").glob("*/meta.json")]
    return [load(DEFAULT), *sorted(found, key=lambda context: context.name)]


def _read(path: Path) -> Context:
    try:
        content = json.loads(path.read_text())
        endpoint = (content.get("Endpoints") or {}).get("docker") or {}
        name, metadata = str(content["Name"]), content.get("Metadata") or {}
    except (ValueError, KeyError, AttributeError) as error:
        raise InvalidArgument(f"cannot use {path}", str(error), "Remove its directory.") from error
    host = str(endpoint.get("Host") or "")
    files = place(name)[1] / "docker"
    stored = {key: str(files / file) for key, file in _FILES.items() if (files / file).exists()}
    skip = bool(endpoint.get("SkipTLSVerify"))
    tls = Tls(**stored, verify=not skip) if stored or skip else None
    return Context(name, host, str(metadata.get("Description") or ""), tls, metadata)


def save(context: Context, *, new: bool) -> None:
    """Keeps a context, with copies of its TLS files; Conflict if a `new` one is there already, InvalidArgument."""
    check_name(context.name)
    meta, files = place(context.name)
    if new and meta.exists():
        raise Conflict(f'context "{context.name}" already exists', remedy="`hooper context update` changes it.")
    parse_address(context.host)
    endpoint = {"Host": context.host, "SkipTLSVerify": bool(context.tls and not context.tls.verify)}
    metadata = {**context.metadata, **({"Description": context.description} if context.description else {})}
    content = {"Name": context.name, "Metadata": metadata, "Endpoints": {"docker": endpoint}}
    _keep_tls(files / "docker", context.tls)
    write_json(str(meta / "meta.json"), content)


def _keep_tls(files: Path, tls: Tls | None) -> None:
    contents = {}
    for key, file in _FILES.items():
        source = getattr(tls, key) if tls else ""
        if source:
            try:
                contents[file] = Path(source).read_bytes()
            except OSError as error:
                raise InvalidArgument(f"cannot read the TLS file {source}", error.strerror or "") from error
    shutil.rmtree(files.parent, ignore_errors=True)
    for file, content in contents.items():
        files.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = files / file
        target.touch(mode=0o600)
        target.write_bytes(content)


def remove(name: str, *, force: bool = False) -> None:
    """Forgets a context; NotFound, or Conflict if it is in use and not `force`."""
    if name == DEFAULT:
        raise InvalidArgument('context "default" cannot be removed', remedy="It is this host's own daemon.")
    meta, files = place(name)
    if not meta.exists():
        load(name)
    if chosen_context() == name and not force:
        raise Conflict(
            f'context "{name}" is in use', remedy="`hooper context use default` first, or remove it with --force."
        )
    if chosen_context() == name:
        use(DEFAULT)
    shutil.rmtree(meta)
    shutil.rmtree(files, ignore_errors=True)


def use(name: str) -> None:
    """Chooses the context of later commands; NotFound."""
    if name != DEFAULT:
        load(name)
    write_json(chosen_file(), {"currentContext": name})


def check_name(name: str) -> None:
    """InvalidArgument unless docker would take the name as well."""
    if name == DEFAULT or not _NAME.fullmatch(name):
        raise InvalidArgument(
            f'"{name}" cannot be the name of a context',
            remedy="It has two or more of a-z, A-Z, 0-9, _, ., + and -, a letter or digit first, and is not default.",
        )


def pack(context: Context, out: BinaryIO) -> None:
    """Writes a context as a tar stream, as `docker context export` does."""
    import tarfile

    meta, files = place(context.name)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.add(meta / "meta.json", "meta.json")
        if files.exists():
            archive.add(files, "tls")


def unpack(name: str, source: BinaryIO) -> None:
    """Keeps an exported context, a tar or zip file, under a name of its own; InvalidArgument, Conflict."""
    import tempfile

    data = source.read(8 * _MOST)
    try:
        files = _zipped(data) if data.startswith(b"PK") else _tarred(data)
        meta = json.loads(files["meta.json"])
        endpoint = meta["Endpoints"]["docker"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgument("this is not an exported context", str(error)) from error
    metadata = meta.get("Metadata") or {}
    with tempfile.TemporaryDirectory() as scratch:
        stored = {}
        for key, name_of_file in _FILES.items():
            if content := files.get(f"tls/docker/{name_of_file}"):
                target = Path(scratch) / name_of_file
                target.write_bytes(content)
                stored[key] = str(target)
        skip = bool(endpoint.get("SkipTLSVerify"))
        tls = Tls(**stored, verify=not skip) if stored or skip else None
        description = str(metadata.get("Description") or "")
        save(Context(name, str(endpoint.get("Host") or ""), description, tls, metadata), new=True)


def _tarred(data: bytes) -> dict[str, bytes]:
    """The files of a tar stream. Docker leaves out what ends one."""
    import io
    import tarfile

    try:
        with tarfile.open(fileobj=io.BytesIO(data + bytes(tarfile.RECORDSIZE)), mode="r|") as archive:
            members = ((one.name, archive.extractfile(one)) for one in archive if one.isreg() and one.size <= _MOST)
            return {name: file.read() for name, file in members if file}
    except tarfile.TarError as error:
        raise ValueError(str(error)) from error


def _zipped(data: bytes) -> dict[str, bytes]:
    import io
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {one.filename: archive.read(one) for one in archive.infolist() if one.file_size <= _MOST}
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
