"""Archives and layouts between hooper, skopeo, podman, umoci and a real dockerd: the same images everywhere."""

from __future__ import annotations

import bz2
import functools
import gzip
import http.server
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.root


@pytest.fixture
def place(short_tmp: Path) -> Iterator[Path]:
    directory = short_tmp / "interchange"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def image_id(engine: support.Engine, name: str) -> str:
    status, found = engine.request("GET", f"/images/{name}/json")
    assert status == 200, found
    return str(found["Id"])


def skopeo(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return support.run("skopeo", "--insecure-policy", *words, check=check)


def config_of(place: str) -> str:
    """The image id that skopeo finds in a place."""
    manifest = json.loads(skopeo("inspect", "--raw", place).stdout)
    return str(manifest["config"]["digest"])


def test_skopeo_reads_what_hooper_writes(clean: support.Hooper, place: Path) -> None:
    wanted = image_id(clean, "busybox")
    for layout in (f"oci:{place}/lay:1", f"oci-archive:{place}/oci.tar:1"):
        clean.hooper("push", "busybox", layout)
        assert config_of(layout) == wanted
    clean.hooper("push", "busybox", f"docker-archive:{place}/docker.tar:bb:2")
    assert config_of(f"docker-archive:{place}/docker.tar:bb:2") == wanted


def test_hooper_reads_what_skopeo_and_umoci_write(clean: support.Hooper, place: Path) -> None:
    wanted = image_id(clean, "busybox")
    clean.hooper("push", "busybox", f"oci:{place}/ours:1")
    for number, layout in enumerate(
        (f"oci:{place}/by:1", f"oci-archive:{place}/by.tar:1", f"docker-archive:{place}/d")
    ):
        skopeo("copy", f"oci:{place}/ours:1", layout)
        clean.hooper("pull", "--name", f"from-skopeo:{number}", layout)
        assert image_id(clean, f"from-skopeo:{number}") == wanted
    support.run("umoci", "config", "--image", f"{place}/by:1", "--tag", "2", "--config.env", "BY=umoci")
    clean.hooper("pull", f"oci:{place}/by:2")
    assert config_of(f"oci:{place}/by:2") == image_id(clean, "by:2")
    clean.hooper("rmi", *(f"from-skopeo:{number}" for number in range(3)), "by:2")


@pytest.fixture(params=["plain", "kept"])
def saved(request: pytest.FixtureRequest, clean: support.Hooper, place: Path) -> Path:
    """An archive with the images ours:1 and ours:2, whose only layer is a plain tar, or as it was pushed."""
    tree = place / "tree"
    tree.mkdir()
    (tree / "file").write_text(f"{request.param} {os.getpid()}\n" * 1000)
    support.run("tar", "-cf", f"{place}/tree.tar", "-C", f"{tree}", ".")
    clean.hooper("import", f"{place}/tree.tar", "ours:1")
    clean.hooper("tag", "ours:1", "ours:2")
    if request.param == "kept":
        clean.hooper("push", "ours:1", f"oci:{place}/layout:1")
    clean.hooper("save", "-o", f"{place}/saved.tar", "ours:1", "ours:2")
    with tarfile.open(place / "saved.tar") as archive:
        entries = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        layer = archive.extractfile(entries[0]["Layers"][0])
        assert layer is not None and (layer.read(2) == b"\x1f\x8b") == (request.param == "kept")
    return place / "saved.tar"


def test_podman_loads_what_hooper_saves_and_back(clean: support.Hooper, place: Path, saved: Path) -> None:
    wanted = image_id(clean, "ours:1")
    podman = ("podman", "--root", f"{place}/podman", "--runroot", f"{place}/run", "--storage-driver", "vfs")
    support.run(*podman, "load", "-i", f"{saved}")
    found = support.run(*podman, "image", "inspect", "-f", "{{.Id}}", "localhost/ours:2").stdout
    assert f"sha256:{found.strip()}" == wanted
    support.run(*podman, "tag", "localhost/ours:2", "docker.io/library/from-podman:1")
    support.run(*podman, "save", "-o", f"{place}/podman.tar", "docker.io/library/from-podman:1")
    clean.hooper("load", "-i", f"{place}/podman.tar")
    assert image_id(clean, "from-podman:1") == wanted
    clean.hooper("rmi", "from-podman:1", "ours:1", "ours:2")


def test_skopeo_reads_what_hooper_saves(clean: support.Hooper, place: Path, saved: Path) -> None:
    for archive in (f"docker-archive:{saved}:ours:2", f"oci-archive:{saved}:2"):
        assert config_of(archive) == image_id(clean, "ours:2")
        skopeo("copy", archive, f"dir:{place}/copy")
    clean.hooper("rmi", "ours:1", "ours:2")


def test_dockerd_loads_what_hooper_saves_and_back(
    clean: support.Hooper, peer: support.Engine, place: Path, saved: Path
) -> None:
    wanted = image_id(clean, "ours:1")
    clean.hooper("push", "ours:1", f"docker-archive:{place}/pushed.tar:ours:3")
    for archive, names in (("saved", ("ours:1", "ours:2")), ("pushed", ("ours:3",))):
        peer.docker("load", "-i", f"{place}/{archive}.tar")
        assert [image_id(peer, name) for name in names] == [wanted] * len(names)
    peer.docker("save", "-o", f"{place}/theirs.tar", "ours:3")
    clean.hooper("rmi", "ours:1", "ours:2")
    clean.hooper("load", "-i", f"{place}/theirs.tar")
    clean.hooper("pull", "--name", "theirs:4", f"docker-archive:{place}/theirs.tar")
    assert [image_id(clean, name) for name in ("ours:3", "theirs:4")] == [wanted] * 2
    for engine, names in ((clean, ("ours:3", "theirs:4")), (peer, ("ours:1", "ours:2", "ours:3"))):
        engine.docker("rmi", *names)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_compressed_archives_load(clean: support.Hooper, place: Path, compress: Callable[[bytes], bytes]) -> None:
    clean.hooper("save", "-o", f"{place}/saved.tar", "busybox")
    (place / "small").write_bytes(compress((place / "saved.tar").read_bytes()))
    assert clean.hooper("load", "-i", f"{place}/small").stdout == "Loaded image: busybox:latest\n"


def test_a_damaged_layout_leaves_nothing(clean: support.Hooper, place: Path) -> None:
    clean.hooper("push", "busybox", f"oci:{place}/lay:1")
    before = clean.request("GET", "/images/json?all=1")[1]
    with support.hooper(place / "other") as other:
        # Small ones first: a verified configuration is kept when the layer fails.
        for blob in sorted((place / "lay" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size):
            content = blob.read_bytes()
            blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            done = other.hooper("pull", f"oci:{place}/lay:1", check=False)
            assert done.returncode == 1 and blob.name[:12] in done.stderr.replace("sha256:", ""), done.stderr
            assert other.request("GET", "/images/json?all=1")[1] == []
            blob.write_bytes(content)
        other.hooper("pull", f"oci:{place}/lay:1")
    assert clean.request("GET", "/images/json?all=1")[1] == before


def test_copies_between_registries_keep_digests(clean: support.Hooper, place: Path) -> None:
    (place / "one").mkdir()
    (place / "two").mkdir()
    (place / "fs.tar").write_bytes(support.context_tar({"a": "b"}))
    with support.docker_registry(place / "one") as first, support.docker_registry(place / "two") as second:
        environment = {"DOCKER_CONFIG": str(place / "client"), "PATH": "/usr/bin:/bin"}
        for name, platform in (("amd", "linux/amd64"), ("arm", "linux/arm64")):
            clean.hooper("import", "--platform", platform, f"{place}/fs.tar", f"{first}/app:{name}")
            clean.hooper("push", "-q", f"{first}/app:{name}")
            clean.hooper("rmi", f"{first}/app:{name}")
        listed = f"{first}/app:all"
        clean.hooper("manifest", "create", listed, f"{first}/app:amd", f"{first}/app:arm", env=environment)
        assert clean.hooper("manifest", "create", listed, f"{first}/app:amd", env=environment, check=False).returncode
        clean.hooper("manifest", "annotate", "--variant", "v8", listed, f"{first}/app:arm", env=environment)
        digest = clean.hooper("manifest", "push", "-p", listed, env=environment).stdout.strip()
        index = json.loads(clean.hooper("manifest", "inspect", listed, env=environment).stdout)
        assert [one["platform"] for one in index["manifests"]] == [
            {"architecture": "amd64", "os": "linux"},
            {"architecture": "arm64", "os": "linux", "variant": "v8"},
        ]
        before = clean.request("GET", "/images/json?all=1")[1]
        clean.hooper("image", "copy", "--all", listed, f"{second}/app:all")
        raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{second}/app:all").stdout
        assert json.loads(raw) == index
        copied = clean.hooper("image", "copy", "-q", "--platform", "linux/arm64", listed, f"{second}/arm:1").stdout
        assert copied.strip() == index["manifests"][1]["digest"]
        clean.hooper("image", "copy", "--all", f"{second}/app@{digest}", f"oci:{place}/lay:all")
        assert len(json.loads(skopeo("inspect", "--raw", f"oci:{place}/lay:all").stdout)["manifests"]) == 2
        assert clean.request("GET", "/images/json?all=1")[1] == before
        _several_platforms(clean, listed, index["manifests"][0]["digest"])


def _several_platforms(clean: support.Hooper, listed: str, amd: str) -> None:
    """What is pulled for one platform stays when the other one is pulled."""
    for platform in ("linux/amd64", "linux/arm64"):
        clean.hooper("pull", "-q", "--platform", platform, listed)
    seen = [
        clean.hooper("image", "inspect", "--platform", one, "-f", "{{.Architecture}}", listed).stdout.strip()
        for one in ("linux/amd64", "linux/arm64")
    ]
    assert seen == ["amd64", "arm64"]
    missing = clean.hooper("image", "inspect", "--platform", "linux/s390x", listed, check=False)
    assert "does not provide the specified platform (linux/s390x)" in missing.stderr
    clean.hooper("image", "prune", "-f")
    assert amd[7:19] in clean.hooper("image", "tree").stdout
    clean.hooper("rmi", "--platform", "linux/arm64", listed)
    assert clean.hooper("image", "inspect", "-f", "{{.Architecture}}", listed).stdout.strip() == "amd64"
    clean.hooper("rmi", listed)


def test_images_differ_in_files_and_configuration(clean: support.Hooper) -> None:
    clean.docker("run", "--name", "changed", "busybox", "sh", "-c", "rm /etc/group; echo x >>/etc/passwd; echo n >/new")
    clean.docker("commit", "-c", "ENV X=1", "-c", "CMD sh", "changed", "changed:1")
    shown = clean.hooper("image", "diff", "busybox", "changed:1").stdout.splitlines()
    assert {line.split(" (")[0] for line in shown if not line.startswith("config")} == {
        "D /etc/group", "C /etc/passwd", "A /new",
    }  # fmt: skip
    assert 'config Env: ["PATH=/bin"] -> ["PATH=/bin", "X=1"]' in shown
    found = json.loads(clean.hooper("image", "diff", "--format", "json", "changed:1", "busybox").stdout)
    assert found["SharedLayers"] == 1
    assert {one["Path"]: (one["Kind"], one["Before"], one["After"]) for one in found["Files"]}["/new"] == (
        "removed", 2, -1,
    )  # fmt: skip
    assert clean.hooper("image", "diff", "busybox", "busybox").stdout == ""
    clean.docker("rm", "changed")
    clean.hooper("rmi", "changed:1")


def test_a_tar_is_imported_from_its_url(either: support.Engine, place: Path) -> None:
    (place / "fs.tar").write_bytes(support.context_tar({"a": "b"}))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(place))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        either.docker("import", "-c", "ENV A=1", f"{url}/fs.tar", "imported:1")
        found = either.request("GET", "/images/imported:1/json")[1]
        assert (found["Config"]["Env"], found["Comment"]) == (["A=1"], f"Imported from {url}/fs.tar")
        assert either.docker("import", f"{url}/nothing.tar", "imported:2", check=False).returncode == 1
    finally:
        server.shutdown()
        either.docker("rmi", "imported:1", check=False)


def test_paths_of_the_daemons_host_want_configuration(clean: support.Hooper, place: Path) -> None:
    status, answer = clean.request("POST", f"/hooper/images/pull?from=oci:{place}/lay:1")
    assert status == 403 and "registry.layout.directories" in str(answer)
    config = f'[registry.layout]\ndirectories = ["{place}/images"]\n'
    clean.hooper("push", "busybox", f"oci:{place}/images/lay:1")
    with support.hooper(place / "other", config) as other:
        status, answer = other.request("POST", f"/hooper/images/pull?from=oci:{place}/images/lay:1")
        assert status == 200 and "error" not in str(answer), answer
        assert image_id(other, "lay:1") == image_id(clean, "busybox")


def test_an_archive_of_images_is_whole_or_refused(clean: support.Hooper, place: Path) -> None:
    """An oci-archive that names a file outside of itself by a link."""
    clean.hooper("push", "busybox", f"oci-archive:{place}/a.tar:1")
    with tarfile.open(place / "a.tar") as source, tarfile.open(place / "b.tar", "w") as target:
        for member in source:
            if member.name == "index.json":
                member = tarfile.TarInfo("index.json")
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                target.addfile(member)
            else:
                target.addfile(member, source.extractfile(member))
    done = clean.hooper("pull", f"oci-archive:{place}/b.tar:1", check=False)
    assert done.returncode == 1 and "root:" not in done.stderr
