"""The category Push of the distribution-spec: end-4 to end-7, end-11, end-13, end-14."""

from __future__ import annotations

import json
import os
import re

import pytest

from hooper.testing.distribution_client import (
    ABSENT,
    CONFIG,
    DOCKER_MANIFEST,
    INDEX,
    LAYER,
    MANIFEST,
    OCTETS,
    Base,
    Repository,
    check_error,
    descriptor,
    digest_of,
)


def _range_end(headers: object) -> int:
    found = re.fullmatch(r"(?:bytes=)?0-(\d+)", headers["range"])  # type: ignore[index]
    assert found, headers
    return int(found[1])


class BlobPushTests(Base):
    def test_end_4a_an_upload_begins(self, repository: Repository) -> None:
        """POST then PUT: MUST be 202 with a Location that has a unique id."""
        first, second = repository.start(), repository.start()
        assert first != second

    def test_end_6_post_then_put(self, repository: Repository) -> None:
        """MUST be 201, with the Location of a pullable blob."""
        content = os.urandom(100_000)
        digest = digest_of(content)
        response = repository.finish(repository.start(), digest, content)
        assert response.status_code == 201
        assert repository.client.send("GET", response.headers["location"]).content == content

    def test_end_6_a_wrong_digest_is_refused(self, repository: Repository) -> None:
        """`<digest>` MUST match: nothing is there afterwards under either name."""
        content = os.urandom(100)
        response = repository.finish(repository.start(), ABSENT, content)
        assert response.status_code == 400
        check_error(response, "DIGEST_INVALID")
        assert repository.head(f"blobs/{ABSENT}").status_code == 404
        assert repository.head(f"blobs/{digest_of(content)}").status_code == 404

    @pytest.mark.parametrize("digest", ["", "nonsense", "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e"])
    def test_end_6_what_is_no_digest_is_400(self, repository: Repository, digest: str) -> None:
        """Pushing blobs: an invalid digest, or one of an unsupported algorithm, SHOULD be 400."""
        assert repository.finish(repository.start(), digest, b"x").status_code == 400

    def test_end_4b_a_single_post(self, repository: Repository) -> None:
        """MAY be supported: 201 with a Location, or else 202 and a PUT follows."""
        content = os.urandom(5000)
        digest = digest_of(content)
        path = f"{repository.base}/blobs/uploads/?digest={digest}"
        response = repository.client.send("POST", path, content, content_type=OCTETS)
        assert response.status_code in (201, 202)
        if response.status_code == 202:
            response = repository.finish(response.headers["location"], digest, content)
        assert repository.client.send("GET", response.headers["location"]).content == content

    def test_end_4b_a_single_post_with_a_wrong_digest(self, repository: Repository) -> None:
        """The digest MUST match."""
        path = f"{repository.base}/blobs/uploads/?digest={ABSENT}"
        response = repository.client.send("POST", path, b"something", content_type=OCTETS)
        assert response.status_code in (202, 400)
        assert repository.head(f"blobs/{ABSENT}").status_code == 404

    @pytest.mark.parametrize("closing", [False, True])
    def test_end_5_chunks(self, repository: Repository, closing: bool) -> None:
        """Pushing a blob in chunks: each MUST be 202 with Location and Range; the last may come with the PUT."""
        chunks = [os.urandom(1000), os.urandom(500), os.urandom(1)]
        location, first = repository.start(), 0
        for chunk in chunks[:-1] if closing else chunks:
            response = repository.patch(location, chunk, first)
            assert response.status_code == 202, response.text
            first += len(chunk)
            assert _range_end(response.headers) == first - 1
            location = response.headers["location"]
        digest = digest_of(b"".join(chunks))
        if closing:
            response = repository.finish(location, digest, chunks[-1], content_range=f"{first}-{first}")
        else:
            response = repository.finish(location, digest)
        assert response.status_code == 201
        assert repository.client.send("GET", response.headers["location"]).content == b"".join(chunks)

    def test_end_5_a_stream_without_ranges(self, repository: Repository) -> None:
        """What Docker's clients do: one PATCH of unknown length, then the PUT."""
        parts = [os.urandom(70_000) for _ in range(5)]
        location = repository.start()
        response = repository.client.send("PATCH", location, iter(parts), content_type=OCTETS)
        assert response.status_code == 202
        digest = digest_of(b"".join(parts))
        assert repository.finish(response.headers["location"], digest).status_code == 201
        assert repository.get(f"blobs/{digest}").content == b"".join(parts)

    @pytest.mark.parametrize("first", [0, 5, 50])
    def test_end_5_a_chunk_out_of_order_is_416(self, repository: Repository, first: int) -> None:
        """MUST be 416; the status MUST tell where to go on, and going on there works."""
        location = repository.patch(repository.start(), b"0123456789", 0).headers["location"]
        response = repository.patch(location, b"abcde", first)
        assert response.status_code == 416
        state = repository.client.send("GET", location)
        assert state.status_code == 204
        assert _range_end(state.headers) == 9
        response = repository.patch(state.headers["location"], b"abcde", 10)
        assert response.status_code == 202
        digest = digest_of(b"0123456789abcde")
        assert repository.finish(response.headers["location"], digest).status_code == 201

    def test_end_5_the_first_chunk_begins_with_0(self, repository: Repository) -> None:
        """The first chunk's range MUST begin with 0."""
        assert repository.patch(repository.start(), b"abcde", 5).status_code == 416

    def test_end_6_a_last_chunk_out_of_order_is_416(self, repository: Repository) -> None:
        """MUST be 416."""
        location = repository.patch(repository.start(), b"0123456789", 0).headers["location"]
        response = repository.finish(location, digest_of(b"0123456789abc"), b"abc", content_range="20-22")
        assert response.status_code == 416

    def test_end_13_the_status_of_an_upload(self, repository: Repository) -> None:
        """MUST be 204 with Location and Range."""
        location = repository.patch(repository.start(), b"x" * 1234, 0).headers["location"]
        state = repository.client.send("GET", location)
        assert state.status_code == 204
        assert _range_end(state.headers) == 1233
        assert state.headers["location"]

    def test_end_14_an_upload_is_cancelled(self, repository: Repository) -> None:
        """SHOULD be 204; the upload is gone then."""
        location = repository.patch(repository.start(), b"abc", 0).headers["location"]
        assert repository.client.send("DELETE", location).status_code == 204
        response = repository.client.send("GET", location)
        assert response.status_code == 404
        check_error(response, "BLOB_UPLOAD_UNKNOWN")
        assert repository.finish(location, digest_of(b"abc")).status_code == 404

    def test_end_5_an_unknown_upload_is_404(self, repository: Repository) -> None:
        """end-5, end-6, end-13: 404."""
        repository.push_blob(b"present")
        location = repository.start()
        repository.client.send("DELETE", location)
        assert repository.patch(location, b"x", 0).status_code == 404

    def test_end_11_a_blob_is_mounted(self, repository: Repository, other: Repository) -> None:
        """MUST be 201 with a Location if it is done, else 202 and an upload has begun."""
        content = os.urandom(100)
        digest = other.push_blob(content)
        query = f"?mount={digest}&from={other.name}"
        response = repository.client.send("POST", f"{repository.base}/blobs/uploads/{query}")
        assert response.status_code == 201
        assert repository.client.send("GET", response.headers["location"]).content == content

    def test_end_11_a_mount_without_from(self, repository: Repository, other: Repository) -> None:
        """MAY be done if the blob can be found, else it SHOULD be 202."""
        content = os.urandom(100)
        digest = other.push_blob(content)
        response = repository.client.send("POST", f"{repository.base}/blobs/uploads/?mount={digest}")
        assert response.status_code in (201, 202)
        if response.status_code == 202:
            response = repository.finish(response.headers["location"], digest, content)
        assert repository.get(f"blobs/{digest}").content == content

    def test_end_11_what_cannot_be_mounted_is_uploaded(self, repository: Repository, other: Repository) -> None:
        """SHOULD be 202: the upload has begun."""
        content = os.urandom(100)
        query = f"?mount={digest_of(content)}&from={other.name}"
        response = repository.client.send("POST", f"{repository.base}/blobs/uploads/{query}")
        assert response.status_code == 202
        assert repository.finish(response.headers["location"], digest_of(content), content).status_code == 201

    def test_end_4c_the_algorithm_of_an_upload(self, repository: Repository) -> None:
        """`digest-algorithm` announces another one than sha256."""
        content = os.urandom(300)
        location = repository.start("?digest-algorithm=sha512")
        digest = digest_of(content, "sha512")
        assert repository.finish(location, digest, content).status_code == 201
        assert repository.get(f"blobs/{digest}").content == content


class ManifestPushTests(Base):
    @pytest.mark.parametrize("by", ["tag", "digest"])
    def test_end_7_a_manifest_is_pushed(self, repository: Repository, by: str) -> None:
        """MUST be 201 with a pullable Location, the digest in its header, and the bytes exactly as they came."""
        content = json.dumps(repository.image(), indent=7).encode() + b"\n\n"
        digest = digest_of(content)
        response = repository.put_manifest("v1" if by == "tag" else digest, content)
        assert response.status_code == 201
        assert response.headers["docker-content-digest"] == digest
        assert repository.client.send("GET", response.headers["location"], accept=MANIFEST).content == content

    def test_end_7_a_wrong_digest_is_refused(self, repository: Repository) -> None:
        """The digest MUST be that of the content."""
        response = repository.put_manifest(ABSENT, json.dumps(repository.image()).encode())
        assert response.status_code == 400
        check_error(response, "DIGEST_INVALID")

    def test_end_7_a_tag_moves(self, repository: Repository) -> None:
        """A tag points to what was pushed last; the earlier manifest stays under its digest."""
        first = repository.push_manifest(repository.image(), "v1")
        second = repository.push_manifest(repository.image(), "v1")
        assert repository.head("manifests/v1").headers["docker-content-digest"] == second
        assert repository.head(f"manifests/{first}").status_code == 200

    @pytest.mark.parametrize("what", ["config", "layers"])
    def test_end_7_unknown_blobs_are_named(self, repository: Repository, what: str) -> None:
        """MAY be rejected, and then MUST be MANIFEST_BLOB_UNKNOWN."""
        absent = descriptor(os.urandom(10), CONFIG if what == "config" else LAYER)
        document = repository.image(**{what: absent if what == "config" else [absent]})
        response = repository.put_manifest("v1", json.dumps(document).encode())
        assert response.status_code in (201, 400, 404)
        if response.status_code != 201:
            check_error(response, "MANIFEST_BLOB_UNKNOWN")

    def test_end_7_layers_that_are_had_elsewhere(self, repository: Repository) -> None:
        """image-spec: non-distributable layers need not be pushed."""
        kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        layer = descriptor(os.urandom(10), kind, urls=["https://elsewhere.example/layer"])
        repository.push_manifest(repository.image(layers=[layer]), "v1")
        assert repository.get("manifests/v1").json()["layers"] == [layer]

    def test_end_7_no_layers(self, repository: Repository) -> None:
        """The list of blobs MAY be empty."""
        repository.push_manifest(repository.image(layers=[]), "v1")
        assert repository.get("manifests/v1").json()["layers"] == []

    def test_end_7_an_index(self, repository: Repository) -> None:
        """An image index names manifests."""
        entries = []
        for architecture in ("amd64", "arm64"):
            document = repository.image()
            repository.push_manifest(document)
            content = json.dumps(document).encode()
            entries.append(descriptor(content, MANIFEST, platform={"os": "linux", "architecture": architecture}))
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        digest = repository.push_manifest(index, "multi")
        response = repository.get("manifests/multi", accept=f"{INDEX},{MANIFEST}")
        assert response.headers["docker-content-digest"] == digest
        assert response.headers["content-type"] == INDEX
        assert response.json() == index

    def test_end_7_docker_schema_2(self, repository: Repository) -> None:
        """Manifests are of any kind that the image-spec names, legacy ones included."""
        document = repository.image(mediaType=DOCKER_MANIFEST)
        document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
        document["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        repository.push_manifest(document, "docker")
        assert repository.get("manifests/docker", accept=DOCKER_MANIFEST).headers["content-type"] == DOCKER_MANIFEST

    def test_end_7_an_artifact(self, repository: Repository) -> None:
        """image-spec 1.1: an image manifest with an artifactType and an empty config."""
        empty = "application/vnd.oci.empty.v1+json"
        repository.push_blob(b"{}")
        document = repository.image(artifactType="application/vnd.example.sbom", config=descriptor(b"{}", empty))
        repository.push_manifest(document, "sbom")
        assert repository.get("manifests/sbom", accept=MANIFEST).json() == document

    def test_end_7_a_media_type_that_nobody_knows(self, repository: Repository) -> None:
        """The Content-Type SHOULD be as pushed."""
        document = {"mediaType": "application/vnd.example.thing.v1+json", "what": "ever"}
        repository.push_manifest(document, "thing")
        response = repository.get("manifests/thing", accept=document["mediaType"])
        assert response.headers["content-type"] == document["mediaType"]

    def test_end_7_what_is_no_manifest_is_refused(self, repository: Repository) -> None:
        """MANIFEST_INVALID."""
        for content in (b"", b"no json", b"[]", b'{"schemaVersion": 2, "config": 7}'):
            response = repository.put_manifest("bad", content)
            assert response.status_code == 400, content
            check_error(response)
        assert repository.head("manifests/bad").status_code == 404

    def test_end_7_a_manifest_of_4_megabytes(self, repository: Repository) -> None:
        """At least 4 megabytes SHOULD be expected to work."""
        document = repository.image(annotations={"filler": "x" * (4_000_000 - 2000)})
        repository.push_manifest(document, "large")
        assert repository.get("manifests/large", accept=MANIFEST).json() == document

    def test_end_7_a_manifest_that_is_too_large_is_413(self, repository: Repository) -> None:
        """A limit SHOULD be enforced, with 413."""
        document = repository.image(annotations={"filler": "x" * (5 << 20)})
        response = repository.put_manifest("huge", json.dumps(document).encode())
        assert response.status_code == 413

    def test_end_7b_tags_as_parameters(self, repository: Repository) -> None:
        """MAY be supported: then OCI-Tag MUST name each that was made; at least 10 SHOULD work."""
        content = json.dumps(repository.image()).encode()
        tags = [f"t{number}" for number in range(10)]
        query = "?" + "&".join(f"tag={tag}" for tag in tags)
        response = repository.put_manifest(digest_of(content), content, query=query)
        assert response.status_code == 201
        made = [tag.strip() for tag in ",".join(response.headers.get_list("oci-tag")).split(",")]
        assert made == tags
        for tag in tags:
            assert repository.head(f"manifests/{tag}").headers["docker-content-digest"] == digest_of(content)

    def test_end_7_a_subject_is_acknowledged(self, repository: Repository) -> None:
        """Pushing Manifests with Subject: OCI-Subject MUST be there; the subject itself need not exist yet."""
        subject = {"mediaType": MANIFEST, "digest": digest_of(os.urandom(10)), "size": 1000}
        content = json.dumps(repository.image(subject=subject)).encode()
        response = repository.put_manifest(digest_of(content), content)
        assert response.status_code == 201
        assert response.headers["oci-subject"] == subject["digest"]
