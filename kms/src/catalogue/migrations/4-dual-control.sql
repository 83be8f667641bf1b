-- Changes of persons, keys and roles. Each row is proven by its leaf, whose `digest` is SHA-256 of `record`; who has which right
-- is what these give one after the other (authority/dual/rights.rs).
CREATE TABLE rights (
    leaf INTEGER PRIMARY KEY,
    record TEXT NOT NULL,            -- canonical JSON
    request TEXT REFERENCES requests (id)
) STRICT;

-- Requests under dual control. Used and withdrawn ones stay; that they are is proven by leaves, not by `state`.
CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    text TEXT NOT NULL,              -- canonical JSON: exactly what custodians sign
    state TEXT NOT NULL CHECK (state IN ('pending', 'executed', 'withdrawn')),
    created TEXT NOT NULL,
    expires TEXT NOT NULL,           -- for lists; what decides stands in the text
    leaf INTEGER NOT NULL            -- the custody entry of asking, whose `digest` is SHA-256 of `text`
) STRICT;
CREATE INDEX requests_by_state ON requests (state, expires);
CREATE INDEX requests_by_age ON requests (created);

CREATE TABLE approvals (
    request TEXT NOT NULL REFERENCES requests (id),
    person TEXT NOT NULL,
    key TEXT NOT NULL,               -- fingerprint
    signature TEXT NOT NULL,         -- base64 of the SSH signature
    added TEXT NOT NULL,
    PRIMARY KEY (request, person)
) STRICT, WITHOUT ROWID;

-- The leaves that the above has to agree with, so that none of them can be passed over.
CREATE INDEX dual_leaves ON custody_leaves (seq)
    WHERE json_extract(leaf, '$.outcome') = 'done' AND json_extract(leaf, '$.op') IN
        ('custodian.add', 'custodian.remove', 'custodian.keys', 'role.grant', 'role.revoke', 'approval.execute', 'approval.withdraw');
