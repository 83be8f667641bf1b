-- Every further wrapped copy of a data key beside the one in its generation's row, and every backup of the catalogue:
-- destruction has to name them all.
CREATE TABLE copies (
    id INTEGER PRIMARY KEY,
    key_id TEXT NOT NULL REFERENCES generations (key_id),
    kind TEXT NOT NULL CHECK (kind IN ('medium', 'recovery', 'recovery_medium', 'export')),
    holder TEXT NOT NULL,            -- what opens it: a key-encryption key, a recovery key, a package
    place TEXT NOT NULL,             -- in words: where it stands
    state TEXT NOT NULL CHECK (state IN ('exists', 'unknown', 'destroyed')),
    sha256 BLOB,
    created TEXT NOT NULL,
    leaf INTEGER NOT NULL            -- the custody entry that names it
) STRICT;
CREATE INDEX copies_of_key ON copies (key_id);

CREATE TABLE backups (
    id TEXT PRIMARY KEY,
    place TEXT NOT NULL,
    catalogue_keks TEXT NOT NULL,    -- JSON array of the catalogue KEKs that stand in it
    checkpoint_size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('exists', 'reported_destroyed', 'closed')),
    created TEXT NOT NULL,
    leaf INTEGER NOT NULL
) STRICT;
