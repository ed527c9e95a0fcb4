"""The image policy "rules": allowed and denied registries and digests, and signatures."""
