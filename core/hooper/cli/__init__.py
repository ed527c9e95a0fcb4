"""The hooper command line."""
