"""A registry server (OCI distribution-spec 1.1), as a front-end of the daemon or on its own."""
