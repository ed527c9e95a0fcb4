"""Registry servers against the distribution-spec: hooper's own, and Debian's docker-registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import support
from hooper.testing.distribution import DistributionConformance, Target
from registry_server_support import htpasswd, registry_server


class TestHooper(DistributionConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def target(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
        with registry_server(tmp_path_factory.mktemp("registry")) as server:
            yield Target(f"http://{server.host}")


class TestHooperWithTokens(DistributionConformance):
    """Every request goes through the server's own token endpoint."""

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
        directory: Path = tmp_path_factory.mktemp("registry")
        users = directory / "htpasswd"
        users.write_text(htpasswd(user="secret"))
        with registry_server(directory, "--htpasswd", str(users), "--anonymous-pull") as server:
            yield Target(f"http://{server.host}", "user", "secret")


@pytest.mark.root
class TestDockerRegistry(DistributionConformance):
    """The reference's behaviour: what the suite asserts is what a registry that everybody uses does."""

    unsupported = {
        "test_end_2_a_range_beyond_the_blob_is_416": "it answers 416 and breaks the connection off",
        "test_end_2_sha512": "sha256 alone",
        "test_end_3_names_follow_the_grammar": "it takes a first component in upper case, as if it were a host",
        "test_end_3_what_is_neither_tag_nor_digest_is_refused": "it answers 500 to a digest that is too short",
        "test_end_5_a_chunk_out_of_order_is_416": "2.8 does not look at Content-Range",
        "test_end_5_the_first_chunk_begins_with_0": "2.8 does not look at Content-Range",
        "test_end_6_a_last_chunk_out_of_order_is_416": "2.8 does not look at Content-Range",
        "test_end_7_a_manifest_that_is_too_large_is_413": "it answers 400",
        "test_end_7_a_media_type_that_nobody_knows": "2.8 takes images and indexes alone",
        "test_end_7_layers_that_are_had_elsewhere": "it refuses URLs that its configuration does not allow",
        "test_end_7_a_subject_is_acknowledged": "2.8 has no referrers",
        "test_end_7b_tags_as_parameters": "2.8 does not know them",
        "test_end_8a_tags_are_listed_in_order": "2.8 lists them as its directory does",
        "test_end_8b_last_begins_after_a_tag": "2.8 always lists all",
        "test_end_8b_n_bounds_the_list": "2.8 always lists all",
        "test_end_8b_n_of_0_is_an_empty_list": "2.8 always lists all",
        "test_end_9_a_tag_is_deleted": "2.8 deletes by digest alone",
        **dict.fromkeys(
            (
                "test_end_12a_a_deleted_referrer_is_not_listed",
                "test_end_12a_no_referrers_are_an_empty_list",
                "test_end_12a_referrers_are_listed",
                "test_end_12a_referrers_may_come_first",
                "test_end_12a_what_is_no_digest_is_400",
                "test_end_12b_referrers_are_filtered",
            ),
            "2.8 has no referrers",
        ),
    }

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls, short_tmp: Path) -> Iterator[Target]:
        directory = short_tmp / "conformance"
        directory.mkdir()
        with support.docker_registry(directory) as host:
            yield Target(f"http://{host}")
