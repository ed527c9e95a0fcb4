"""Content: blobs by digest, layers as tar streams."""
