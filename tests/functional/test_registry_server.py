"""The registry server with everybody's clients: docker, podman, skopeo, hooper, docker-registry as a mirror of it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import support
from hooper.testing.distribution_client import Client, Repository, Target, digest_of
from registry_server_support import RegistryServer, htpasswd, registry_server
from support import run

SKOPEO = ("--insecure-policy",)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with registry_server(tmp_path / "registry") as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """For tests that leave the server as it is, and no upload unfinished."""
    with registry_server(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker-archive of busybox."""
    directory = tmp_path_factory.mktemp("archive")
    (directory / "rootfs.tar").write_bytes(support.busybox_tar())
    support.write_docker_archive(directory / "rootfs.tar", directory / "busybox.tar", "busybox:latest")
    return directory / "busybox.tar"


def repository(server: RegistryServer, name: str, user: str = "", password: str = "") -> Repository:
    return Repository(Client(Target(f"http://{server.host}", user, password)), name)


def copy(archive: Path, target: str, *options: str) -> None:
    run(
        "skopeo",
        "copy",
        *SKOPEO,
        "--dest-tls-verify=false",
        *options,
        f"docker-archive:{archive}",
        f"docker://{target}",
    )


def users_file(directory: Path, **users: str) -> str:
    path = directory / "htpasswd"
    path.write_text(htpasswd(**users))
    return str(path)


# --- clients ------------------------------------------------------------------------------------------


def test_skopeo_copies_inspects_lists_and_deletes(shared: RegistryServer, archive: Path, tmp_path: Path) -> None:
    copy(archive, f"{shared.host}/team/busybox:1")
    target = f"docker://{shared.host}/team/busybox"
    digest = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"{target}:1").stdout)["Digest"]
    run("skopeo", "copy", *SKOPEO, "--src-tls-verify=false", f"{target}@{digest}", f"dir:{tmp_path}/out")
    assert digest_of((tmp_path / "out/manifest.json").read_bytes()) == digest
    assert json.loads(run("skopeo", "list-tags", "--tls-verify=false", target).stdout)["Tags"] == ["1"]
    run("skopeo", "delete", "--tls-verify=false", f"{target}:1")
    assert run("skopeo", "inspect", "--tls-verify=false", f"{target}:1", check=False).returncode != 0


@pytest.mark.root
def test_hooper_pushes_and_pulls(shared: RegistryServer, clean: support.Hooper) -> None:
    name = f"{shared.host}/team/app:1"
    clean.hooper("tag", "busybox", name)
    clean.hooper("push", name)
    before = json.loads(clean.hooper("image", "inspect", name).stdout)[0]["Id"]
    clean.hooper("rmi", name)
    clean.hooper("pull", name)
    assert json.loads(clean.hooper("image", "inspect", name).stdout)[0]["Id"] == before
    assert clean.hooper("run", "--rm", name, "echo", "it runs").stdout == "it runs\n"
    clean.hooper("rmi", name)


@pytest.mark.dockerd
def test_dockerd_pushes_and_pulls(shared: RegistryServer, peer: support.Engine, tmp_path: Path) -> None:
    name = f"{shared.host}/team/app:1"
    peer.docker("tag", "busybox", name)
    peer.docker("push", name)
    digest = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}").stdout)["Digest"]
    peer.docker("rmi", name)
    assert digest in peer.docker("pull", name).stdout
    assert peer.docker("run", "--rm", name, "echo", "it runs").stdout == "it runs\n"
    # Another repository of the same registry: the layer is mounted, not sent.
    peer.docker("tag", name, f"{shared.host}/other/app:1")
    assert "Mounted from team/app" in peer.docker("push", f"{shared.host}/other/app:1").stdout


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("podman"), reason="there is no podman")
def test_podman_pushes_and_pulls(shared: RegistryServer, archive: Path, short_tmp: Path) -> None:
    root = short_tmp / "podman"
    storage = ("podman", "--root", str(root), "--runroot", str(short_tmp / "pr"), "--storage-driver=vfs")
    name = f"{shared.host}/team/podman:1"
    try:
        run(*storage, "load", "-i", str(archive))
        run(*storage, "push", "--tls-verify=false", "localhost/busybox:latest", f"docker://{name}")
        run(*storage, "pull", "--tls-verify=false", name)
        assert json.loads(run(*storage, "image", "inspect", name).stdout)[0]["RepoDigests"]
    finally:
        run("umount", "-R", str(root), check=False)


def test_docker_registry_mirrors_it(shared: RegistryServer, archive: Path, tmp_path: Path) -> None:
    copy(archive, f"{shared.host}/team/busybox:1")
    port = support.free_port()
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "mirror")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "proxy": {"remoteurl": f"http://{shared.host}"},
    }
    (tmp_path / "mirror.yml").write_text(json.dumps(config))
    mirror = subprocess.Popen(
        ["docker-registry", "serve", str(tmp_path / "mirror.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        support.until(lambda: _answers(f"http://127.0.0.1:{port}/v2/"), what="the mirror")
        source = f"docker://127.0.0.1:{port}/team/busybox:1"
        run("skopeo", "copy", *SKOPEO, "--src-tls-verify=false", source, f"dir:{tmp_path}/out")
    finally:
        mirror.kill()
        mirror.wait()
    original = httpx.get(f"http://{shared.host}/v2/team/busybox/manifests/1").content
    assert (tmp_path / "out/manifest.json").read_bytes() == original


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


# --- the daemon's own content ---------------------------------------------------------------------------


@pytest.mark.root
def test_the_daemons_images_are_served_without_a_copy(short_tmp: Path, tmp_path: Path) -> None:
    """Built ones and pulled ones; what is pushed comes into the same content, and survives its collection."""
    from conftest import import_busybox

    port = support.free_port()
    config = f"""
        [frontend]
        enabled = ["auto", "registry"]
        [frontend.registry]
        listen = ["127.0.0.1:{port}"]
        gc_interval = 0.0
    """
    with support.hooper(short_tmp / "served", config) as daemon:
        import_busybox(daemon)
        host = f"127.0.0.1:{port}"
        image = json.loads(daemon.hooper("image", "inspect", "busybox").stdout)[0]
        source = f"docker://{host}/busybox:latest"
        run("skopeo", "copy", *SKOPEO, "--src-tls-verify=false", source, f"dir:{tmp_path}/out")
        manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
        assert manifest["config"]["digest"] == image["Id"]
        assert httpx.get(f"http://{host}/v2/_catalog").json() == {"repositories": ["busybox"]}
        assert not list((daemon.data_root / "drivers/frontend-registry").glob("blobs/*/*/*"))

        pushed = Repository(Client(Target(f"http://{host}")), "team/pushed")
        layer = support.context_tar({"file": "content"})
        digest = pushed.push_blob(layer)
        pushed.push_manifest(_tar_image(pushed, layer), "1")
        daemon.hooper("image", "prune", "-f")
        assert (daemon.data_root / "content/sha256" / digest.partition(":")[2]).exists()
        daemon.stop()
        daemon.start()
        daemon.hooper("image", "prune", "-f")
        assert pushed.get(f"blobs/{digest}").content == layer
        daemon.hooper("pull", f"{host}/team/pushed:1")
        assert pushed.delete("manifests/1").status_code == 202
        assert httpx.delete(f"http://{host}/v2/busybox/manifests/latest").status_code == 405


def _tar_image(target: Repository, layer: bytes) -> dict[str, Any]:
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
    }
    content = json.dumps(config).encode()
    target.push_blob(content)
    image = target.image()
    oci = "application/vnd.oci.image"
    image["config"] = {"mediaType": f"{oci}.config.v1+json", "digest": digest_of(content), "size": len(content)}
    image["layers"] = [{"mediaType": f"{oci}.layer.v1.tar", "digest": digest_of(layer), "size": len(layer)}]
    return image


# --- who may what ---------------------------------------------------------------------------------------


def test_htpasswd(tmp_path: Path, archive: Path) -> None:
    with registry_server(tmp_path / "r", "--htpasswd", users_file(tmp_path, alice="wonder land:1")) as server:
        url = f"http://{server.host}/v2/"
        assert httpx.get(url).headers["www-authenticate"] == 'Basic realm="registry"'
        for user, word, expected in (("alice", "wonder land:1", 200), ("alice", "wrong", 401), ("bob", "x", 401)):
            assert httpx.get(url, auth=(user, word)).status_code == expected
        copy(archive, f"{server.host}/app:1", "--dest-creds", "alice:wonder land:1")
        assert httpx.get(f"{url}app/manifests/1").status_code == 401
        assert httpx.post(f"{url}app/blobs/uploads/").status_code == 401
        secret = base64.b64encode(b"alice:wonder land:1").decode()
        assert "wonder" not in server.log
        assert secret not in server.log


def test_anonymous_pull_and_tokens_of_its_own(tmp_path: Path, archive: Path) -> None:
    """A client logs in at /v2/, gets tokens, and pushes; whoever is nobody pulls, and that alone."""
    with registry_server(
        tmp_path / "r", "--htpasswd", users_file(tmp_path, alice="secret"), "--anonymous-pull"
    ) as server:
        copy(archive, f"{server.host}/app:1", "--dest-creds", "alice:secret")
        target = f"docker://{server.host}/app:1"
        run("skopeo", "inspect", "--tls-verify=false", target)
        assert run("skopeo", "delete", "--tls-verify=false", target, check=False).returncode != 0
        bad = run("skopeo", "inspect", "--tls-verify=false", "--creds", "alice:wrong", target, check=False)
        assert bad.returncode != 0
        stranger = httpx.get(f"http://{server.host}/token?service=hooper-registry&scope=repository:app:pull,push")
        (granted,) = jwt.decode(stranger.json()["token"], options={"verify_signature": False})["access"]
        assert granted["actions"] == ["pull"]
        # What somebody else has signed is no token.
        forged = jwt.encode(
            {"iss": "hooper-registry", "aud": "hooper-registry", "exp": time.time() + 60, "access": [granted]}, "k" * 32
        )
        answer = httpx.get(f"http://{server.host}/v2/app/manifests/1", headers={"authorization": f"Bearer {forged}"})
        assert answer.status_code == 401
        assert "invalid_token" in answer.headers["www-authenticate"]


def test_tokens_of_a_token_server(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public)
    (tmp_path / "config.toml").write_text(f"""
        [frontend.registry]
        token_realm = "https://auth.example/token"
        token_service = "registry.example"
        token_issuer = "auth.example"
        token_keys = ["{tmp_path}/key.pem"]
    """)

    def token(signer: Any = key, **changes: Any) -> dict[str, str]:
        access = [{"type": "repository", "name": "team/app", "actions": ["pull", "push"]}]
        claims = {
            "iss": "auth.example",
            "aud": "registry.example",
            "exp": time.time() + 60,
            "access": access,
            **changes,
        }
        return {"authorization": f"Bearer {jwt.encode(claims, signer, algorithm='ES256')}"}

    with registry_server(tmp_path / "r", "--config", str(tmp_path / "config.toml")) as server:
        url = f"http://{server.host}/v2/team"
        challenge = httpx.post(f"{url}/app/blobs/uploads/").headers["www-authenticate"]
        assert 'realm="https://auth.example/token"' in challenge
        assert 'scope="repository:team/app:push,pull"' in challenge
        assert httpx.post(f"{url}/app/blobs/uploads/", headers=token()).status_code == 202
        for bad in (
            token(iss="somebody"),
            token(aud="another"),
            token(exp=time.time() - 3600),
            token(access=[]),
            token(signer=ec.generate_private_key(ec.SECP256R1())),
        ):
            assert httpx.post(f"{url}/app/blobs/uploads/", headers=bad).status_code == 401
        assert httpx.post(f"{url}/other/blobs/uploads/", headers=token()).status_code == 401
        # A blob of a repository that the token does not open cannot be mounted from there either.
        both = [{"type": "repository", "name": name, "actions": ["pull", "push"]} for name in ("a", "b")]
        content = b"secret"
        path = f"http://{server.host}/v2/a/blobs/uploads/?digest={digest_of(content)}"
        assert httpx.post(path, headers=token(access=both), content=content).status_code == 201
        for query in ("", "&from=a"):
            mount = f"http://{server.host}/v2/b/blobs/uploads/?mount={digest_of(content)}{query}"
            assert httpx.post(mount, headers=token(access=both[1:])).status_code == 202
        assert httpx.post(mount, headers=token(access=both)).status_code == 201


def test_tls(tmp_path: Path, archive: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost",
        "-addext", "subjectAltName=IP:127.0.0.1",
    )  # fmt: skip
    with registry_server(tmp_path / "r", "--tls-certificate", str(certificate), "--tls-key", str(key)) as server:
        ca = tmp_path / "ca"
        ca.mkdir()
        shutil.copy(certificate, ca / "ca.crt")
        target = f"docker://{server.host}/app:1"
        run("skopeo", "copy", *SKOPEO, f"--dest-cert-dir={ca}", f"docker-archive:{archive}", target)
        run("skopeo", "copy", *SKOPEO, f"--src-cert-dir={ca}", target, f"dir:{tmp_path}/out")
        assert run("skopeo", "inspect", target, check=False).returncode != 0
        context = ssl.create_default_context(cafile=str(certificate))
        content = os.urandom(5_000_000)
        url = f"https://{server.host}/v2/app/blobs"
        with httpx.Client(verify=context) as client:
            assert client.post(f"{url}/uploads/?digest={digest_of(content)}", content=content).status_code == 201
            assert client.get(f"{url}/{digest_of(content)}").content == content


def test_read_only(server: RegistryServer, archive: Path) -> None:
    copy(archive, f"{server.host}/app:1")
    server.stop()
    server.arguments.append("--read-only")
    server.start()
    target = repository(server, "app")
    assert target.get("manifests/1").status_code == 200
    assert target.delete("manifests/1").status_code == 405
    response = target.client.send("POST", f"{target.base}/blobs/uploads/")
    assert response.status_code == 405
    assert response.json()["errors"][0]["code"] == "UNSUPPORTED"


# --- a cache of another registry ------------------------------------------------------------------------


def test_pull_through(server: RegistryServer, archive: Path, tmp_path: Path) -> None:
    """Fetched once; a moved tag is seen; the cache goes on when its upstream is down; damage is not given out."""
    origin = repository(server, "team/app")
    first, second = origin.image(), origin.image()
    digest = origin.push_manifest(first, "1")
    with registry_server(tmp_path / "cache", "--upstream", f"http://{server.host}") as cache:
        cached = repository(cache, "team/app")
        layer = first["layers"][0]["digest"]
        assert cached.get(f"blobs/{layer}").status_code == 404
        assert cached.get("manifests/1").headers["docker-content-digest"] == digest
        content = origin.get(f"blobs/{layer}").content
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: repository(cache, "team/app").get(f"blobs/{layer}").content, range(8)))
        assert found == [content] * 8
        assert server.log.count(f"GET path=/v2/team/app/blobs/{layer}") == 2
        moved = origin.push_manifest(second, "1")
        assert cached.get("manifests/1").headers["docker-content-digest"] == moved
        assert cached.client.send("POST", f"{cached.base}/blobs/uploads/").status_code == 405
        assert cached.get("tags/list").json()["tags"] == ["1"]

        damaged = second["layers"][0]["digest"]
        (path,) = (server.directory / "data/blobs").glob(f"*/*/{damaged.partition(':')[2]}")
        path.write_bytes(bytes(reversed(path.read_bytes())))
        with pytest.raises(httpx.HTTPError):
            cached.get(f"blobs/{damaged}")
        support.until(lambda: not cache.uploads(), what="the damaged download is dropped")
        server.stop()
        assert cached.get("manifests/1").headers["docker-content-digest"] == moved
        assert cached.get(f"blobs/{layer}").content == content
        assert cached.get("tags/list").json()["tags"] == ["1"]
        assert cached.get("manifests/other").status_code == 503


# --- crowds, cuts and crashes ---------------------------------------------------------------------------


def test_twenty_clients_at_once(shared: RegistryServer) -> None:
    """All push the same blob and one of their own, and pull what others push."""
    common = os.urandom(2_000_000)

    def work(number: int) -> str:
        target = repository(shared, f"crowd/{number % 4}")
        own = os.urandom(300_000)
        target.push_blob(common)
        target.push_blob(own)
        assert target.get(f"blobs/{digest_of(common)}").content == common
        assert target.get(f"blobs/{digest_of(own)}").content == own
        return target.push_manifest(target.image(), f"tag{number}")

    with ThreadPoolExecutor(20) as pool:
        digests = list(pool.map(work, range(20)))
    for number, digest in enumerate(digests):
        head = repository(shared, f"crowd/{number % 4}").head(f"manifests/tag{number}")
        assert head.headers["docker-content-digest"] == digest
    assert shared.blobs().count(hashlib.sha256(common).hexdigest()) == 1
    assert shared.uploads() == []


def test_killed_in_an_upload(server: RegistryServer) -> None:
    """SIGKILL while bytes come: a client asks where to go on, and the blob is whole. Twice."""
    content = os.urandom(24_000_000)
    digest = digest_of(content)
    target = repository(server, "crash")
    location = target.start()
    for killed_after in (9_000_000, 17_000_000):
        offset = _offset(target, location)
        _send_until(server, location, content, offset, killed_after)
        server.stop(signal.SIGKILL)
        server.start()
        target = repository(server, "crash")
        assert target.head(f"blobs/{digest}").status_code == 404
        assert 0 < _offset(target, location) <= killed_after
    offset = _offset(target, location)
    assert target.patch(location, content[offset:], offset).status_code == 202
    assert target.finish(location, digest).status_code == 201
    assert target.get(f"blobs/{digest}").content == content
    assert server.uploads() == []


def _offset(target: Repository, location: str) -> int:
    state = target.client.send("GET", location)
    assert state.status_code == 204
    end = int(state.headers["range"].partition("-")[2])
    return end + 1 if end else 0


def _send_until(server: RegistryServer, location: str, content: bytes, first: int, last: int) -> None:
    """A PATCH that announces everything and sends the bytes up to `last`; returns when most of them are written."""
    head = (
        f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content) - first}\r\n"
        f"Content-Range: {first}-{len(content) - 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(head.encode() + content[first:last])
        (path,) = server.uploads()
        support.until(lambda: path.stat().st_size > last - 2_000_000, what="bytes are written")


def test_a_cut_upload_is_resumed(shared: RegistryServer) -> None:
    """The connection ends in the middle, or hangs: another request takes the upload over."""
    content = os.urandom(5_000_000)
    target = repository(shared, "cut")
    location = target.start()
    _send_until(shared, location, content, 0, 3_000_000)
    support.until(lambda: _offset(target, location) == 3_000_000, what="all bytes that came are there")
    with socket.create_connection(("127.0.0.1", shared.port)) as hanging:
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Range: 3000000-3000999\r\n\r\n"
        hanging.sendall(head.encode() + b"x")
        hanging.settimeout(10)
        time.sleep(0.2)
        # The byte of the hanging one has been taken, and is cut off by nobody: the client sees where it is.
        first = target.patch(location, content[3_000_000:], 3_000_000)
        assert first.status_code in (202, 416)
        if first.status_code == 416:
            target.client.send("DELETE", location)
            location, content = target.start(), content[:3_000_000]
            assert target.patch(location, content, 0).status_code == 202
    assert target.finish(location, digest_of(content)).status_code == 201


def test_slow_clients_are_sent_away(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("timeout = 1.0\n")
    with registry_server(tmp_path / "r", "--config", str(tmp_path / "config.toml")) as server:
        location = repository(server, "slow").start()
        for beginning in (
            b"GET /v2/ HT",
            f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx".encode(),
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
                sock.sendall(beginning)
                stop = threading.Event()
                dripping = threading.Thread(target=_drip, args=(sock, stop))
                dripping.start()
                with contextlib.suppress(ConnectionError):
                    assert sock.recv(1000) == b""
                stop.set()
                dripping.join()
        assert repository(server, "slow").client.send("GET", "/v2/").status_code == 200


def _drip(sock: socket.socket, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stop.wait(0.3):
            sock.sendall(b"x")


# --- garbage --------------------------------------------------------------------------------------------


def test_garbage_goes_and_all_else_stays(server: RegistryServer) -> None:
    target = repository(server, "garbage")
    kept = target.image()
    target.push_manifest(kept, "kept")
    gone = target.image()
    digest = target.push_manifest(gone, "gone")
    referrer = target.image(subject={"mediaType": kept["mediaType"], "digest": digest_of(_bytes(kept)), "size": 1})
    target.push_manifest(referrer)
    target.push_blob(b"of no manifest")
    assert target.delete(f"manifests/{digest}").status_code == 202
    untagged = target.image()
    target.push_manifest(untagged)

    data = str(server.directory / "data")
    assert "0 blobs" in _gc(data)
    _gc(data, "--older-than", "0")
    left = {digest["digest"].partition(":")[2] for image in (kept, referrer, untagged) for digest in _blobs(image)}
    assert set(server.blobs()) == left
    _gc(data, "--older-than", "0", "--untagged")
    assert target.head(f"manifests/{digest_of(_bytes(untagged))}").status_code == 404
    assert target.head(f"manifests/{digest_of(_bytes(referrer))}").status_code == 200
    assert set(server.blobs()) == {d["digest"].partition(":")[2] for image in (kept, referrer) for d in _blobs(image)}


def _blobs(image: dict[str, Any]) -> list[dict[str, Any]]:
    return [image["config"], *image["layers"]]


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _gc(directory: str, *options: str) -> str:
    import sys

    return run(sys.executable, "-m", "hooper", "registry", "gc", "--directory", directory, *options).stdout


def test_collection_while_images_are_pushed(tmp_path: Path) -> None:
    """What is pushed during collections, over and over, is never taken away, though nothing is spared for its age."""
    (tmp_path / "config.toml").write_text("gc_interval = 0.01\ngc_grace = 3.0\n")
    with registry_server(tmp_path / "r", "--config", str(tmp_path / "config.toml")) as server:
        base = repository(server, "shared")
        image = base.image()
        base.push_manifest(image, "base")

        def work(number: int) -> None:
            target = repository(server, f"busy/{number}")
            for round_ in range(4):
                for blob in _blobs(image):
                    query = f"?mount={blob['digest']}&from=shared"
                    assert target.client.send("POST", f"{target.base}/blobs/uploads/{query}").status_code == 201
                digest = target.push_manifest(image, "v")
                assert target.delete(f"manifests/{digest}").status_code == 202
                target.push_manifest(target.image(), f"kept{round_}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        for number in range(4):
            target = repository(server, f"busy/{number}")
            for tag in target.get("tags/list").json()["tags"]:
                for blob in _blobs(target.get(f"manifests/{tag}").json()):
                    assert target.head(f"blobs/{blob['digest']}").status_code == 200


def test_one_server_a_directory(shared: RegistryServer) -> None:
    import sys

    again = run(
        sys.executable, "-m", "hooper", "registry", "serve", "--listen", f"127.0.0.1:{support.free_port()}",
        "--directory", str(shared.directory / "data"), check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert "is in use" in again.stderr


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    import sys

    (tmp_path / "htpasswd").write_text("user:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    for options, words in (
        (["--htpasswd", str(tmp_path / "htpasswd")], "bcrypt"),
        (["--htpasswd", str(tmp_path / "absent")], "cannot read"),
        (["--tls-certificate", str(tmp_path / "htpasswd")], "certificate"),
        (["--upstream", "nonsense"], "http"),
        (["--listen", "nowhere"], "port"),
    ):
        command = [sys.executable, "-m", "hooper", "registry", "serve", "--directory", str(tmp_path / "d"), *options]
        done = run(*command, check=False)
        assert done.returncode == 1, options
        assert words in done.stderr
