-- Tokens and their profiles. `profile` is canonical JSON; its SHA-256 is the digest of the custody entry `leaf`.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    module TEXT NOT NULL,
    uri TEXT NOT NULL,
    pin TEXT,
    profile TEXT NOT NULL,
    leaf INTEGER NOT NULL,
    enrolled TEXT NOT NULL
) STRICT;
-- None in a catalogue from before tokens were enrolled: the installation's first token.
ALTER TABLE keks ADD COLUMN token TEXT REFERENCES tokens (id);
