-- Anchors, tenants' trees, signing keys.

-- Anchors: what each took last. The subject (a witness's key, a path) is part of the name: another one is another anchor.
CREATE TABLE custody_anchors (
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    size INTEGER NOT NULL,
    anchored TEXT NOT NULL,
    PRIMARY KEY (name, subject)
) STRICT, WITHOUT ROWID;
