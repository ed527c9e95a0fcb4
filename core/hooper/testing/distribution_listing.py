"""The category Content Discovery of the distribution-spec: end-8 and end-12."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

import pytest

from hooper.testing.distribution_client import (
    ABSENT,
    CONFIG,
    INDEX,
    MANIFEST,
    Base,
    Client,
    Repository,
    check_error,
    descriptor,
    digest_of,
)

TAGS = ["10", "9", "A", "Z", "a", "b", "c", "z"]


class DiscoveryTests(Base):
    @pytest.fixture
    def tagged(self, repository: Repository) -> Repository:
        """Has TAGS, which were pushed in another order."""
        document = repository.image()
        for tag in reversed(TAGS):
            repository.push_manifest(document, tag)
        return repository

    def _tags(self, repository: Repository, query: str = "") -> list[str]:
        response = repository.get(f"tags/list{query}")
        assert response.status_code == 200
        content = response.json()
        assert content["name"] == repository.name
        return list(content["tags"] or [])

    def test_end_8a_tags_are_listed_in_order(self, tagged: Repository) -> None:
        """MUST be 200, in the shape and, lexically or by their bytes, in order."""
        assert self._tags(tagged) in (TAGS, sorted(TAGS, key=str.lower))

    def test_end_8a_an_absent_repository_is_404(self, repository: Repository) -> None:
        """404, NAME_UNKNOWN."""
        response = repository.get("tags/list")
        assert response.status_code == 404
        check_error(response, "NAME_UNKNOWN")

    @pytest.mark.parametrize("count", [1, 3, 8, 100])
    def test_end_8b_n_bounds_the_list(self, tagged: Repository, count: int) -> None:
        """MUST have `n` results, or fewer only if there are no more, or a Link."""
        response = tagged.get(f"tags/list?n={count}")
        tags = response.json()["tags"]
        assert tags == self._tags(tagged)[: len(tags)]
        assert len(tags) == min(count, len(TAGS)) or "link" in response.headers

    def test_end_8b_n_of_0_is_an_empty_list(self, tagged: Repository) -> None:
        """MUST be an empty list, and MUST NOT have a Link."""
        response = tagged.get("tags/list?n=0")
        assert response.status_code == 200
        assert not response.json()["tags"]
        assert "link" not in response.headers

    def test_end_8b_last_begins_after_a_tag(self, tagged: Repository) -> None:
        """`last` itself MUST NOT be in the list; `n` is OPTIONAL with it."""
        tags = self._tags(tagged)
        assert self._tags(tagged, f"?last={tags[2]}") == tags[3:]
        assert self._tags(tagged, f"?n=2&last={tags[2]}") == tags[3:5]
        assert self._tags(tagged, f"?n=2&last={tags[-1]}") == []

    def test_end_8b_links_lead_to_all_tags(self, tagged: Repository) -> None:
        """A Link MUST be as RFC 5988 has it, with rel="next"."""
        seen, path = [], f"{tagged.base}/tags/list?n=3"
        for _ in range(len(TAGS)):
            response = tagged.client.send("GET", path)
            seen += response.json()["tags"]
            if "next" not in response.links:
                break
            path = response.links["next"]["url"]
        assert seen == self._tags(tagged)

    # --- referrers: end-12 ----------------------------------------------------------------------------

    @pytest.fixture
    def referred(self, repository: Repository) -> tuple[Repository, str, dict[str, dict[str, Any]]]:
        """A repository, the digest of an image in it, and what refers to that: documents by digest."""
        image = repository.image()
        content = json.dumps(image).encode()
        repository.push_manifest(image, "subject")
        subject = descriptor(content, MANIFEST)
        documents = [
            repository.image(subject=subject, artifactType="application/vnd.a", annotations={"key": "value"}),
            repository.image(subject=subject, artifactType="application/vnd.b"),
            repository.image(subject=subject),
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject, "annotations": {"x": "y"}},
        ]
        return repository, subject["digest"], {repository.push_manifest(each): each for each in documents}

    def _referrers(self, repository: Repository, digest: str, query: str = "") -> tuple[dict[str, Any], Any]:
        response = repository.get(f"referrers/{digest}{query}")
        assert response.status_code == 200
        assert response.headers["content-type"] == INDEX
        index = response.json()
        assert index["schemaVersion"] == 2
        assert index["mediaType"] == INDEX
        return {entry["digest"]: entry for entry in index["manifests"]}, response.headers

    def test_end_12a_referrers_are_listed(self, referred: Any) -> None:
        """MUST be 200, an index, with descriptors, artifact types, or else those of the config, and annotations."""
        repository, digest, documents = referred
        found, _ = self._referrers(repository, digest)
        assert found.keys() == documents.keys()
        for each, entry in found.items():
            document = documents[each]
            assert entry["mediaType"] == document["mediaType"]
            assert entry["size"] == len(json.dumps(document).encode())
            expected = document.get("artifactType") or (CONFIG if "config" in document else None)
            assert entry.get("artifactType") == expected
            assert entry.get("annotations") == document.get("annotations")

    def test_end_12b_referrers_are_filtered(self, referred: Any) -> None:
        """SHOULD be supported, and then MUST say so in OCI-Filters-Applied."""
        repository, digest, documents = referred
        found, headers = self._referrers(repository, digest, f"?artifactType={quote('application/vnd.b')}")
        assert [documents[each]["artifactType"] for each in found] == ["application/vnd.b"]
        assert headers["oci-filters-applied"] == "artifactType"

    def test_end_12a_no_referrers_are_an_empty_list(self, repository: Repository) -> None:
        """MUST be an empty list, and MUST NOT be 404."""
        repository.push_manifest(repository.image(), "v1")
        assert self._referrers(repository, ABSENT)[0] == {}

    def test_end_12a_what_is_no_digest_is_400(self, repository: Repository) -> None:
        """MUST be 400."""
        repository.push_manifest(repository.image(), "v1")
        assert repository.get("referrers/nonsense").status_code == 400

    def test_end_12a_referrers_may_come_first(self, repository: Repository) -> None:
        """A manifest MUST be accepted before its subject, and is listed then."""
        image = repository.image()
        content = json.dumps(image).encode()
        digest = repository.push_manifest(repository.image(subject=descriptor(content, MANIFEST)))
        assert list(self._referrers(repository, digest_of(content))[0]) == [digest]
        repository.push_manifest(image, "v1")
        assert list(self._referrers(repository, digest_of(content))[0]) == [digest]

    def test_end_12a_a_deleted_referrer_is_not_listed(self, referred: Any) -> None:
        """The list is of manifests in the repository."""
        repository, digest, documents = referred
        gone = next(iter(documents))
        assert repository.delete(f"manifests/{gone}").status_code == 202
        assert gone not in self._referrers(repository, digest)[0]

    def test_referrers_tag_schema(self, repository: Repository) -> None:
        """Backwards Compatibility: the fallback tag is a tag like any other."""
        image = repository.image()
        digest = repository.push_manifest(image, "v1")
        tag = digest.replace(":", "-")
        entry = descriptor(json.dumps(image).encode(), MANIFEST)
        repository.push_manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, tag)
        assert repository.get(f"manifests/{tag}", accept=INDEX).json()["manifests"] == [entry]
        assert tag in self._tags(repository)

    def test_docker_catalog(self, client: Client, repository: Repository) -> None:
        """Docker's registry API: not of the specification, but clients ask for it."""
        repository.push_blob(os.urandom(5))
        repository.push_manifest(repository.image(), "v1")
        path, names = "/v2/_catalog?n=1000", []
        while path:
            response = client.send("GET", path)
            assert response.status_code == 200
            names += response.json()["repositories"]
            path = response.links.get("next", {}).get("url", "")
        assert repository.name in names
        assert names == sorted(names)
