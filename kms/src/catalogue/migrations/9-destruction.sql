-- Replacing the catalogue's key-encryption key; destruction batches and certificates.

-- The custody entry that names the wrapped copy as it is now, if it is not the one that created the key.
ALTER TABLE generations ADD COLUMN wrapped_leaf INTEGER;
CREATE INDEX generations_of_kek ON generations (kek, key_id);

-- A key must not come under a key-encryption key after that was emptied.
CREATE TRIGGER no_key_under_a_replaced_kek BEFORE INSERT ON generations
WHEN (SELECT state FROM keks WHERE id = NEW.kek) <> 'active'
BEGIN
    SELECT RAISE(ABORT, 'the key-encryption key of the new key was replaced meanwhile; try again');
END;

CREATE TABLE rotations (
    id TEXT PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    old_kek TEXT NOT NULL REFERENCES keks (id),
    new_kek TEXT NOT NULL REFERENCES keks (id),
    state TEXT NOT NULL CHECK (state IN ('rewrapping', 'verifying', 'held', 'stopped', 'done')),
    verified TEXT NOT NULL DEFAULT '',   -- keys up to this id were opened under the new key-encryption key
    reason TEXT NOT NULL,
    started TEXT NOT NULL,
    ended TEXT,
    leaf INTEGER NOT NULL                -- the custody entry of its intent; its digest is over tenant, old and new
) STRICT;
CREATE UNIQUE INDEX one_rotation ON rotations (tenant) WHERE state <> 'done';

-- Wrapped keys that did not open.
CREATE TABLE rotation_faults (
    rotation TEXT NOT NULL REFERENCES rotations (id),
    key_id TEXT NOT NULL,
    what TEXT NOT NULL,
    PRIMARY KEY (rotation, key_id)
) STRICT, WITHOUT ROWID;

-- Destructions. What is destroyed is told by the plan alone, whose SHA-256 the entry `plan_leaf` holds; that it was approved is told by
-- the entry `begun_leaf`.
CREATE TABLE destructions (
    id TEXT PRIMARY KEY,
    request TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL
        CHECK (state IN ('asked', 'rewrapping', 'backup', 'keks', 'wiping', 'certifying', 'signing', 'done')),
    reason TEXT NOT NULL,
    plan TEXT NOT NULL,                  -- canonical JSON
    plan_leaf INTEGER NOT NULL,
    begun_leaf INTEGER,
    rotation TEXT REFERENCES rotations (id),
    backup TEXT,                         -- in words: the backup that was made after it
    certificate TEXT,                    -- canonical JSON, then the signed note
    asked TEXT NOT NULL,
    begun TEXT,
    ended TEXT
) STRICT;

-- Key-encryption keys of a destruction, as far as they are done.
CREATE TABLE destroyed_keks (
    kek TEXT PRIMARY KEY REFERENCES keks (id),
    destruction TEXT NOT NULL REFERENCES destructions (id),
    verified TEXT NOT NULL               -- how, in words
) STRICT, WITHOUT ROWID;

-- Volumes that may not be destroyed.
CREATE TABLE holds (
    volume TEXT PRIMARY KEY REFERENCES volumes (id),
    reason TEXT NOT NULL,
    since TEXT NOT NULL,
    leaf INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
