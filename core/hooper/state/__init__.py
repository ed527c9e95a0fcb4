"""Durable metadata: sqlite, its schema and the lock of a data root."""
