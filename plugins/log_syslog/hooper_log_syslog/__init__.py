"""A bundled plugin of hooper."""
