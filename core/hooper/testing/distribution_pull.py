"""The category Pull of the distribution-spec: end-1, end-2, end-3, and "Error Codes"."""

from __future__ import annotations

import json
import os

import pytest

from hooper.testing.distribution_client import (
    ABSENT,
    CONFIG,
    MANIFEST,
    Base,
    Client,
    Repository,
    check_error,
    digest_of,
)


class PullTests(Base):
    def test_end_1_the_base_answers_200(self, client: Client) -> None:
        """Determining Support: 200 OK says that the specification is implemented."""
        assert client.send("GET", "/v2/").status_code == 200

    # --- manifests: end-3 -----------------------------------------------------------------------------

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("by", ["tag", "digest"])
    def test_end_3_a_manifest_is_pulled(self, repository: Repository, method: str, by: str) -> None:
        """MUST be 200, the expected manifest, with its digest and, for HEAD, its size; the type SHOULD be as pushed."""
        document = repository.image()
        content = json.dumps(document).encode()
        digest = repository.push_manifest(document, "v1")
        path = f"{repository.base}/manifests/{'v1' if by == 'tag' else digest}"
        response = repository.client.send(method, path, accept=MANIFEST)
        assert response.status_code == 200
        assert response.headers["docker-content-digest"] == digest
        assert response.headers["content-type"] == MANIFEST
        assert response.headers["content-length"] == str(len(content))
        assert response.content == (content if method == "GET" else b"")

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("reference", ["absent", ABSENT])
    def test_end_3_an_absent_manifest_is_404(self, repository: Repository, method: str, reference: str) -> None:
        """MUST be 404 if the manifest is not in the repository."""
        repository.push_manifest(repository.image(), "v1")
        response = repository.client.send(method, f"{repository.base}/manifests/{reference}")
        assert response.status_code == 404
        if method == "GET":
            check_error(response, "MANIFEST_UNKNOWN")

    def test_end_3_an_absent_repository_is_404(self, repository: Repository) -> None:
        """Pushing Manifests: an attempt to pull a nonexistent repository MUST be 404."""
        response = repository.get("manifests/latest")
        assert response.status_code == 404
        check_error(response, "NAME_UNKNOWN", "MANIFEST_UNKNOWN")

    def test_end_3_what_is_neither_tag_nor_digest_is_refused(self, repository: Repository) -> None:
        """`<tag-or-digest>` MUST NOT be in any other format."""
        for reference in ("-x", "x" * 129, "sha256:12", ".dot"):
            assert repository.get(f"manifests/{reference}").status_code in (400, 404)
            response = repository.put_manifest(reference, json.dumps(repository.image()).encode())
            assert response.status_code in (400, 404), reference

    def test_end_3_names_follow_the_grammar(self, client: Client) -> None:
        """`<name>` MUST match the regular expression."""
        for name in ("UPPER/case", "a//b", "-a/b", "a/b-", "a/..b"):
            response = client.send("POST", f"/v2/{name}/blobs/uploads/")
            assert response.status_code in (301, 400, 404), name
        for name in ("a", "a/b/c", "a.b/c_d", "a__b/c--d"):
            response = client.send("POST", f"/v2/conformance/{name}/blobs/uploads/")
            assert response.status_code == 202, name
            client.send("DELETE", response.headers["location"])

    def test_end_3_a_manifest_has_an_etag(self, repository: Repository) -> None:
        """RFC 9110: a client that has it is told so."""
        repository.push_manifest(repository.image(), "v1")
        etag = repository.get("manifests/v1").headers["etag"]
        assert repository.get("manifests/v1", if_none_match=etag).status_code == 304

    # --- blobs: end-2 ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("size", [0, 1, 3_000_000])
    def test_end_2_a_blob_is_pulled(self, repository: Repository, method: str, size: int) -> None:
        """MUST be 200, the expected blob, with its digest and, for HEAD, its size."""
        content = os.urandom(size)
        digest = repository.push_blob(content)
        response = repository.client.send(method, f"{repository.base}/blobs/{digest}")
        assert response.status_code == 200
        assert response.headers["docker-content-digest"] == digest
        assert response.headers["content-length"] == str(size)
        assert response.content == (content if method == "GET" else b"")

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_end_2_an_absent_blob_is_404(self, repository: Repository, method: str) -> None:
        """MUST be 404 if the blob is not in the repository."""
        repository.push_blob(b"present")
        response = repository.client.send(method, f"{repository.base}/blobs/{ABSENT}")
        assert response.status_code == 404
        if method == "GET":
            check_error(response, "BLOB_UNKNOWN")

    def test_end_2_a_blob_of_another_repository_is_404(self, repository: Repository, other: Repository) -> None:
        """A repository is a scope: what another one has is not in it."""
        digest = other.push_blob(os.urandom(100))
        repository.push_blob(b"present")
        assert repository.get(f"blobs/{digest}").status_code == 404

    @pytest.mark.parametrize(
        ("asked", "first", "last"),
        [("0-0", 0, 0), ("10-19", 10, 19), ("900-", 900, 999), ("-100", 900, 999), ("990-5000", 990, 999)],
    )
    def test_end_2_a_range_of_a_blob(self, repository: Repository, asked: str, first: int, last: int) -> None:
        """SHOULD support Range, as RFC 9110 (section 14) has it."""
        content = os.urandom(1000)
        digest = repository.push_blob(content)
        response = repository.get(f"blobs/{digest}", range=f"bytes={asked}")
        assert response.status_code == 206
        assert response.headers["content-range"] == f"bytes {first}-{last}/1000"
        assert response.content == content[first : last + 1]

    def test_end_2_a_range_beyond_the_blob_is_416(self, repository: Repository) -> None:
        """RFC 9110 (section 15.5.17)."""
        digest = repository.push_blob(b"short")
        response = repository.get(f"blobs/{digest}", range="bytes=5-")
        assert response.status_code == 416

    def test_end_2_sha512(self, repository: Repository) -> None:
        """Digests: an algorithm is part of the digest."""
        content = os.urandom(500)
        digest = repository.push_blob(content, "sha512")
        response = repository.get(f"blobs/{digest}")
        assert response.status_code == 200
        assert response.content == content
        document = json.dumps(repository.image()).encode()
        assert repository.put_manifest(digest_of(document, "sha512"), document).status_code == 201
        assert repository.get(f"manifests/{digest_of(document, 'sha512')}").content == document

    def test_error_codes_have_their_shape(self, repository: Repository) -> None:
        """Error Codes: a JSON body MUST have `errors`, and codes MUST be those of the specification."""
        repository.push_blob(b"present")
        config = json.dumps({"mediaType": MANIFEST, "schemaVersion": 2, "config": {"mediaType": CONFIG}}).encode()
        for response in (
            repository.get("manifests/absent"),
            repository.get(f"blobs/{ABSENT}"),
            repository.put_manifest("bad", config),
            repository.put_manifest("bad", b"not json"),
            repository.finish(repository.start(), ABSENT, b"something else"),
        ):
            assert 400 <= response.status_code < 500
            check_error(response)
