"""A client of the Docker Engine API on the standard library alone: quick to import, quick to answer."""
