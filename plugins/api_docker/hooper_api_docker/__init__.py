"""The Docker Engine API as a front-end of hooper."""
