"""The conformance kit: what plugin authors run against their drivers."""
