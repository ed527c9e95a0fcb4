"""Finding, checking and choosing plugins."""
