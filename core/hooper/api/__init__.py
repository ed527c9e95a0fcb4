"""The surface that plugins import. Nothing else of the core is an interface."""
