"""OCI layout directories and archives of images, used as registries."""
