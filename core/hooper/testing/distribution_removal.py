"""The category Content Management of the distribution-spec: end-9 and end-10."""

from __future__ import annotations

import os

from hooper.testing.distribution_client import ABSENT, Base, Repository, check_error


class ManagementTests(Base):
    def test_end_9_a_tag_is_deleted(self, repository: Repository) -> None:
        """MUST be 202; the tag is 404 then. The manifest and its other tags stay."""
        document = repository.image()
        digest = repository.push_manifest(document, "v1")
        repository.push_manifest(document, "v2")
        assert repository.delete("manifests/v1").status_code == 202
        assert repository.get("manifests/v1").status_code == 404
        assert repository.head("manifests/v2").status_code == 200
        assert repository.head(f"manifests/{digest}").status_code == 200

    def test_end_9_a_manifest_is_deleted(self, repository: Repository) -> None:
        """MUST be 202; its digest and all its tags are 404 then."""
        document = repository.image()
        digest = repository.push_manifest(document, "v1")
        repository.push_manifest(document, "v2")
        kept = repository.push_manifest(repository.image(), "kept")
        assert repository.delete(f"manifests/{digest}").status_code == 202
        for reference in ("v1", "v2", digest):
            assert repository.get(f"manifests/{reference}").status_code == 404
        assert repository.head("manifests/kept").headers["docker-content-digest"] == kept

    def test_end_9_the_tags_of_a_deleted_manifest_are_not_listed(self, repository: Repository) -> None:
        """What a GET answers with 404 is no tag."""
        digest = repository.push_manifest(repository.image(), "gone")
        repository.push_manifest(repository.image(), "kept")
        assert repository.delete(f"manifests/{digest}").status_code == 202
        assert repository.get("tags/list").json()["tags"] == ["kept"]

    def test_end_9_an_absent_manifest_is_404(self, repository: Repository) -> None:
        """MUST be 404 if the repository does not exist."""
        assert repository.delete(f"manifests/{ABSENT}").status_code == 404
        repository.push_manifest(repository.image(), "v1")
        response = repository.delete(f"manifests/{ABSENT}")
        assert response.status_code == 404
        check_error(response, "MANIFEST_UNKNOWN")

    def test_end_9_what_is_pushed_again_is_back(self, repository: Repository) -> None:
        """Deletion is no ban."""
        document = repository.image()
        digest = repository.push_manifest(document, "v1")
        assert repository.delete(f"manifests/{digest}").status_code == 202
        assert repository.push_manifest(document, "v1") == digest
        assert repository.head("manifests/v1").status_code == 200

    def test_end_10_a_blob_is_deleted(self, repository: Repository) -> None:
        """MUST be 202; it is 404 then."""
        digest = repository.push_blob(os.urandom(100))
        assert repository.delete(f"blobs/{digest}").status_code == 202
        assert repository.get(f"blobs/{digest}").status_code == 404
        assert repository.head(f"blobs/{digest}").status_code == 404

    def test_end_10_other_repositories_keep_the_blob(self, repository: Repository, other: Repository) -> None:
        """A repository is a scope."""
        content = os.urandom(100)
        digest = repository.push_blob(content)
        assert other.push_blob(content) == digest
        assert repository.delete(f"blobs/{digest}").status_code == 202
        assert other.get(f"blobs/{digest}").content == content

    def test_end_10_an_absent_blob_is_404(self, repository: Repository) -> None:
        """MUST be 404."""
        repository.push_blob(b"present")
        response = repository.delete(f"blobs/{ABSENT}")
        assert response.status_code == 404
        check_error(response, "BLOB_UNKNOWN")
