"""A builder for hooper that reads TOML recipes."""
