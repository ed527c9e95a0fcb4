"""What reads bytes of strangers, fed with any bytes at all. `scripts/fuzz` searches, the ordinary tests repeat."""
