"""Thin typed wrappers of what the kernel offers."""
