"""The schema, as numbered steps. A step that has been released is never changed: add another."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    # 1
    """
    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL
    ) STRICT;

    -- A layer in place on its parents: the committed snapshot that bears the chain id as its name.
    CREATE TABLE layers (
        chain_id TEXT PRIMARY KEY,
        parent TEXT REFERENCES layers(chain_id),
        diff_id TEXT NOT NULL,
        size INTEGER NOT NULL,
        driver TEXT NOT NULL
    ) STRICT;
    CREATE INDEX layers_by_parent ON layers(parent);

    -- A compressed form of a layer that this host has as a blob.
    CREATE TABLE layer_blobs (
        diff_id TEXT NOT NULL,
        digest TEXT NOT NULL REFERENCES blobs(digest),
        PRIMARY KEY (diff_id, digest)
    ) STRICT;

    -- Where a registry is known to have a blob: pushes mount it or skip it.
    CREATE TABLE blob_sources (
        digest TEXT NOT NULL,
        host TEXT NOT NULL,
        repository TEXT NOT NULL,
        PRIMARY KEY (digest, host, repository)
    ) STRICT;

    CREATE TABLE images (
        id TEXT PRIMARY KEY,
        chain_id TEXT REFERENCES layers(chain_id),
        parent TEXT NOT NULL DEFAULT '',
        size INTEGER NOT NULL,
        created REAL NOT NULL,
        last_tagged REAL NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE tags (
        reference TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images(id)
    ) STRICT;
    CREATE INDEX tags_by_image ON tags(image_id);

    -- "docker.io/library/busybox", "sha256:…" of the manifest or index it was pulled or pushed as.
    CREATE TABLE repo_digests (
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        image_id TEXT NOT NULL REFERENCES images(id),
        PRIMARY KEY (name, digest, image_id)
    ) STRICT;

    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image_id TEXT,
        document BLOB NOT NULL
    ) STRICT;

    CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        document BLOB NOT NULL
    ) STRICT;

    CREATE TABLE endpoints (
        id TEXT PRIMARY KEY,
        network_id TEXT NOT NULL REFERENCES networks(id),
        container_id TEXT NOT NULL,
        address TEXT,
        address6 TEXT,
        document BLOB NOT NULL,
        UNIQUE (network_id, container_id),
        UNIQUE (network_id, address),
        UNIQUE (network_id, address6)
    ) STRICT;

    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        document BLOB NOT NULL
    ) STRICT;

    CREATE TABLE volume_users (
        volume TEXT NOT NULL REFERENCES volumes(name),
        container_id TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
        PRIMARY KEY (volume, container_id)
    ) STRICT;

    CREATE TABLE build_cache (
        key TEXT PRIMARY KEY,
        chain_id TEXT,
        document BLOB NOT NULL,
        last_used REAL NOT NULL
    ) STRICT;

    -- What must not be collected while somebody works with it: kind blob, layer, image or snapshot.
    CREATE TABLE leases (
        owner TEXT NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (owner, kind, name)
    ) STRICT;

    CREATE TABLE driver_state (
        driver TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (driver, key)
    ) STRICT;
    """,
    # Containers that arrive from another engine: the target's record of each transfer.
    """
    CREATE TABLE transfers (
        id TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        container_id TEXT NOT NULL,
        document BLOB NOT NULL
    ) STRICT;
    """,
    # The build cache by what a step really depends on; the earlier one's keys mean nothing to it.
    """
    DROP TABLE build_cache;
    CREATE TABLE build_steps (
        key TEXT PRIMARY KEY,
        chain_id TEXT,
        parent TEXT NOT NULL,
        description TEXT NOT NULL,
        created TEXT NOT NULL,
        added INTEGER NOT NULL,
        last_used REAL NOT NULL,
        uses INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX build_steps_by_chain ON build_steps(chain_id);

    CREATE TABLE build_digests (
        key TEXT PRIMARY KEY,
        chain_id TEXT NOT NULL,
        digest TEXT NOT NULL
    ) STRICT;
    CREATE INDEX build_digests_by_chain ON build_digests(chain_id);
    """,
    # Where images are known to come from, whatever they are called here. So far every name with a digest told it.
    """
    CREATE TABLE image_origins (
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        PRIMARY KEY (name, digest, image_id)
    ) STRICT;
    CREATE INDEX image_origins_by_image ON image_origins(image_id);
    INSERT INTO image_origins SELECT name, digest, image_id FROM repo_digests;
    """,
)
