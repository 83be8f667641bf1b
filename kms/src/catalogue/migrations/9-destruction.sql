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
