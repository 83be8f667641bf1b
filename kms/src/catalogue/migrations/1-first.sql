CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE keks (
    id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL CHECK (purpose IN ('catalogue', 'medium')),
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    epoch INTEGER NOT NULL,
    mechanism TEXT NOT NULL,
    state TEXT NOT NULL,
    canary BLOB NOT NULL,
    canary_sha256 BLOB NOT NULL,
    created TEXT NOT NULL,
    created_leaf INTEGER NOT NULL
) STRICT;

CREATE TABLE pools (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    suite INTEGER NOT NULL,
    compression INTEGER NOT NULL,
    key_on_medium INTEGER NOT NULL,
    label_on_medium INTEGER NOT NULL,
    barcode_on_medium INTEGER NOT NULL,
    medium_kek TEXT NOT NULL REFERENCES keks (id),
    UNIQUE (tenant, name)
) STRICT;

CREATE TABLE volumes (
    id TEXT PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    pool INTEGER NOT NULL REFERENCES pools (id),
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    label TEXT NOT NULL,
    barcode TEXT,
    partitions INTEGER NOT NULL,
    owner INTEGER,
    replaces TEXT REFERENCES volumes (id),
    created TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_label ON volumes (tenant, label) WHERE state = 'active' AND kind = 'tape';

CREATE TABLE partitions (
    volume TEXT NOT NULL REFERENCES volumes (id),
    partition INTEGER NOT NULL,
    next_generation INTEGER NOT NULL,
    next_ordinal INTEGER NOT NULL,
    PRIMARY KEY (volume, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE generations (
    volume TEXT NOT NULL REFERENCES volumes (id),
    partition INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    key_id TEXT NOT NULL UNIQUE,
    suite INTEGER NOT NULL,
    compression INTEGER NOT NULL,
    first_ordinal INTEGER NOT NULL,
    state TEXT NOT NULL,
    key_state TEXT NOT NULL,
    commitment BLOB,
    kek TEXT NOT NULL REFERENCES keks (id),
    wrapped BLOB NOT NULL,
    created TEXT NOT NULL,
    created_leaf INTEGER NOT NULL,
    end_ordinal INTEGER,
    end_object INTEGER,
    end_filemarks INTEGER,
    last_object INTEGER,
    last_tag BLOB,
    PRIMARY KEY (volume, partition, generation)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_active ON generations (volume, partition) WHERE state = 'active';

CREATE TABLE sessions (
    volume TEXT NOT NULL,
    partition INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    session_id BLOB NOT NULL UNIQUE,
    first_object INTEGER NOT NULL,
    filemarks INTEGER NOT NULL,
    link BLOB NOT NULL,
    after_ordinal INTEGER NOT NULL,
    confirmed INTEGER NOT NULL DEFAULT 0,
    gone INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (volume, partition, ordinal),
    FOREIGN KEY (volume, partition, generation) REFERENCES generations (volume, partition, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_generation ON sessions (volume, partition, generation, ordinal);

CREATE TABLE tickets (
    sha256 BLOB PRIMARY KEY,
    unit TEXT NOT NULL,
    label TEXT NOT NULL,
    barcode TEXT,
    pool INTEGER NOT NULL REFERENCES pools (id),
    partitions INTEGER NOT NULL,
    relabel INTEGER NOT NULL,
    actor TEXT NOT NULL,
    expires TEXT NOT NULL,
    volume TEXT REFERENCES volumes (id)
) STRICT, WITHOUT ROWID;

CREATE TABLE unit_pools (
    unit TEXT NOT NULL,
    pool INTEGER NOT NULL REFERENCES pools (id),
    PRIMARY KEY (unit, pool)
) STRICT, WITHOUT ROWID;

CREATE TABLE actors (
    pseudonym TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    name TEXT,
    first_seen TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE intents (leaf INTEGER PRIMARY KEY, op TEXT NOT NULL, key TEXT NOT NULL, volume TEXT) STRICT;

CREATE TABLE custody_leaves (seq INTEGER PRIMARY KEY, leaf TEXT NOT NULL) STRICT;
CREATE TABLE custody_nodes (
    level INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;
CREATE TABLE custody_checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL, created TEXT NOT NULL) STRICT;
