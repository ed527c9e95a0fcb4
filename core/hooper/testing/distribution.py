"""The conformance suite of registry servers: the OCI distribution-spec 1.1.

It is given the URL of a server that may be written to, and goes through every requirement that can be seen from
outside; a test's name begins with the number of the endpoint in the specification's table, and its docstring says what
is required. The server is expected to allow deletion.

    from hooper.testing.distribution import DistributionConformance, Target

    class TestMine(DistributionConformance):
        unsupported = {"test_end_2_sha512": "sha256 alone"}

        @pytest.fixture(scope="class")
        @classmethod
        def target(cls):
            with my_server() as port:
                yield Target(f"http://127.0.0.1:{port}", "user", "password")
"""

from __future__ import annotations

from hooper.testing.distribution_client import Target
from hooper.testing.distribution_listing import DiscoveryTests
from hooper.testing.distribution_pull import PullTests
from hooper.testing.distribution_push import BlobPushTests, ManifestPushTests
from hooper.testing.distribution_removal import ManagementTests

__all__ = ["DistributionConformance", "Target"]


class DistributionConformance(PullTests, BlobPushTests, ManifestPushTests, DiscoveryTests, ManagementTests):
    """Subclass it, with a name that begins with Test, and define the fixture `target`."""
