"""hooper: a container engine whose every part is a plugin."""

__version__ = "0.1.0"
