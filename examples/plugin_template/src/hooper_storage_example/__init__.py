"""A storage driver for hooper, to copy and change."""
