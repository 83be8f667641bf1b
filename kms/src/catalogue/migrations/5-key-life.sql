-- States and periods of keys, epochs of key-encryption keys, what was ended.

-- Periods of a data key and the key-encryption key of its copy on the medium. Fixed at its creation: the entry `leaf` has their
-- digest; an extension is an entry of its own.
CREATE TABLE key_life (
    key_id TEXT PRIMARY KEY REFERENCES generations (key_id),
    seal_until TEXT,                 -- it seals before this time; NULL: without a limit
    open_until TEXT,                 -- it opens before this time; NULL: without a limit
    medium_kek TEXT REFERENCES keks (id),
    leaf INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX key_life_opening ON key_life (open_until) WHERE open_until IS NOT NULL;
CREATE INDEX key_life_sealing ON key_life (seal_until) WHERE seal_until IS NOT NULL;
CREATE INDEX key_life_of_kek ON key_life (medium_kek, key_id) WHERE medium_kek IS NOT NULL;
CREATE INDEX generations_ended ON generations (key_state) WHERE key_state IN ('compromised', 'destroyed_compromised');

-- The medium key-encryption keys of a pool, by epoch. `leaf` has the digest of the row.
CREATE TABLE medium_keks (
    kek TEXT PRIMARY KEY REFERENCES keks (id),
    pool INTEGER NOT NULL REFERENCES pools (id),
    epoch TEXT NOT NULL,
    until TEXT,                      -- no key under it opens after this time; NULL: not known
    leaf INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX medium_keks_of_pool ON medium_keks (pool, epoch);

-- Catalogues from before had one medium key-encryption key per pool, and no periods.
INSERT INTO medium_keks (kek, pool, epoch, until, leaf)
    SELECT p.medium_kek, p.id, 'single', NULL, k.created_leaf FROM pools p JOIN keks k ON k.id = p.medium_kek;
INSERT INTO key_life (key_id, medium_kek, leaf)
    SELECT g.key_id, p.medium_kek, g.created_leaf FROM generations g
    JOIN volumes v ON v.id = g.volume JOIN pools p ON p.id = v.pool WHERE p.key_on_medium = 1;

-- For how long keys may be used, as JSON; and the custody entry with the digest of the whole policy.
ALTER TABLE pools ADD COLUMN life TEXT NOT NULL DEFAULT '{}';
ALTER TABLE pools ADD COLUMN policy_leaf INTEGER;

-- Releases that were ended before their time, in the order in which data paths are told.
CREATE TABLE ends (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    volume TEXT NOT NULL,
    key_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    time TEXT NOT NULL,
    leaf INTEGER NOT NULL
) STRICT;
CREATE INDEX ends_of_key ON ends (key_id);

-- What was marked as compromised, by the custody entry of it; and which data keys are by that.
CREATE TABLE compromises (
    leaf INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('key', 'volume', 'kek')),
    target TEXT NOT NULL,
    reason TEXT NOT NULL,
    time TEXT NOT NULL
) STRICT;
CREATE TABLE compromised_keys (
    key_id TEXT PRIMARY KEY REFERENCES generations (key_id),
    leaf INTEGER NOT NULL REFERENCES compromises (leaf)
) STRICT, WITHOUT ROWID;

-- Volumes with compromised keys that two custodians let be read for a while. `leaf` has the digest of volume and time.
CREATE TABLE rescues (
    leaf INTEGER PRIMARY KEY,
    volume TEXT NOT NULL REFERENCES volumes (id),
    until TEXT NOT NULL
) STRICT;
CREATE INDEX rescues_of_volume ON rescues (volume, until);
