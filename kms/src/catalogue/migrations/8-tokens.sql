-- Tokens. `record` is the enrolment in canonical JSON; its SHA-256 is the digest of the custody entry `leaf`. The first row is the
-- token of the set-up.
CREATE TABLE tokens (
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL,
    leaf INTEGER NOT NULL
) STRICT;
-- None in a catalogue from before tokens were enrolled: the installation's first token, which is enrolled at the next start.
ALTER TABLE keks ADD COLUMN token TEXT REFERENCES tokens (id);
