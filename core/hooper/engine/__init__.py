"""The use cases: what happens to containers, images, networks, volumes and builds."""
