-- Recovery keys, packages of keys, logs from before a restore.
CREATE TABLE recovery_keys (
    id TEXT PRIMARY KEY,             -- from the public key's hash
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    epoch INTEGER NOT NULL,
    public TEXT NOT NULL,            -- canonical JSON of the public file
    state TEXT NOT NULL CHECK (state IN ('active', 'retired')),
    created TEXT NOT NULL,
    leaf INTEGER NOT NULL,           -- the custody entry that installed it
    UNIQUE (tenant, epoch)
) STRICT;
CREATE UNIQUE INDEX one_recovery_key ON recovery_keys (tenant) WHERE state = 'active';

-- Data keys wrapped to recovery keys: the stanza's body as it stands on a medium.
CREATE TABLE recovery_stanzas (
    key_id TEXT NOT NULL REFERENCES generations (key_id),
    recovery_key TEXT NOT NULL REFERENCES recovery_keys (id),
    body BLOB NOT NULL,
    leaf INTEGER NOT NULL,           -- names its hash
    PRIMARY KEY (key_id, recovery_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE recovery_canaries (
    id TEXT PRIMARY KEY,
    recovery_key TEXT NOT NULL REFERENCES recovery_keys (id),
    public BLOB NOT NULL,            -- verifies the report of its drill
    created TEXT NOT NULL,
    leaf INTEGER NOT NULL,
    drilled TEXT,                    -- when the report was entered
    drill_leaf INTEGER
) STRICT;

ALTER TABLE pools ADD COLUMN recovery_on_medium INTEGER NOT NULL DEFAULT 1;

CREATE TABLE packages (
    id TEXT PRIMARY KEY,
    direction TEXT NOT NULL CHECK (direction IN ('export', 'import')),
    origin TEXT NOT NULL,            -- the log of the site that signed it
    partner TEXT NOT NULL,
    recipient TEXT NOT NULL,         -- SHA-256 of its text
    expires TEXT NOT NULL,
    sha256 BLOB NOT NULL,            -- of what was signed
    keys INTEGER NOT NULL,
    created TEXT NOT NULL,
    leaf INTEGER NOT NULL
) STRICT;

-- Keys of partners: they open, and end.
CREATE TABLE imported_keys (
    key_id TEXT PRIMARY KEY REFERENCES generations (key_id),
    package TEXT NOT NULL REFERENCES packages (id),
    expires TEXT NOT NULL,
    leaf INTEGER NOT NULL            -- names key, wrapped copy and, by its digest, package and expiry
) STRICT, WITHOUT ROWID;
ALTER TABLE volumes ADD COLUMN imported TEXT REFERENCES packages (id);

-- Checkpoints under the origins that this log had before the catalogue was restored from a backup.
CREATE TABLE former_checkpoints (
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,
    note TEXT NOT NULL,
    created TEXT NOT NULL,
    PRIMARY KEY (origin, size)
) STRICT, WITHOUT ROWID;
