-- Tenants' trees: their opaque ids, and each tree as of its last root in the main log (edge: the hashes of its complete
-- subtrees, largest first, 32 bytes each).
ALTER TABLE tenants ADD COLUMN uuid TEXT;
UPDATE tenants SET uuid = lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
    || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)));
CREATE UNIQUE INDEX tenants_by_uuid ON tenants (uuid);
CREATE TABLE tenant_trees (
    tenant INTEGER PRIMARY KEY REFERENCES tenants (id),
    size INTEGER NOT NULL,
    edge BLOB NOT NULL,
    leaf INTEGER NOT NULL            -- the entry tenant.root
) STRICT;

-- The log's earlier signing keys, and the entry with which each was replaced. The present one stands in meta.
CREATE TABLE log_keys (number INTEGER PRIMARY KEY, key TEXT NOT NULL, leaf INTEGER NOT NULL UNIQUE) STRICT;

-- What the log is searched by. The columns are computed from the leaf, so they cannot say anything else.
ALTER TABLE custody_leaves ADD COLUMN volume TEXT GENERATED ALWAYS AS (json_extract(leaf, '$.volume')) VIRTUAL;
ALTER TABLE custody_leaves ADD COLUMN key TEXT GENERATED ALWAYS AS (json_extract(leaf, '$.key')) VIRTUAL;
ALTER TABLE custody_leaves ADD COLUMN op TEXT GENERATED ALWAYS AS (json_extract(leaf, '$.op')) VIRTUAL;
ALTER TABLE custody_leaves ADD COLUMN actor TEXT GENERATED ALWAYS AS (json_extract(leaf, '$.actor')) VIRTUAL;
ALTER TABLE custody_leaves ADD COLUMN tenant TEXT GENERATED ALWAYS AS (json_extract(leaf, '$.tenant')) VIRTUAL;
ALTER TABLE custody_leaves ADD COLUMN tenant_seq INTEGER GENERATED ALWAYS AS (json_extract(leaf, '$.tenant_seq')) VIRTUAL;
CREATE INDEX leaves_by_volume ON custody_leaves (volume) WHERE volume IS NOT NULL;
CREATE INDEX leaves_by_key ON custody_leaves (key) WHERE key IS NOT NULL;
CREATE INDEX leaves_by_op ON custody_leaves (op);
CREATE INDEX leaves_by_actor ON custody_leaves (actor);
CREATE UNIQUE INDEX leaves_by_tenant ON custody_leaves (tenant, tenant_seq) WHERE tenant_seq IS NOT NULL;

-- Listing volumes page by page, and finding one among a hundred thousand.
CREATE INDEX volumes_by_age ON volumes (created, id);
CREATE INDEX volumes_by_label ON volumes (label);
CREATE INDEX volumes_by_barcode ON volumes (barcode);

-- Anchors: what each took last. The subject (a witness's key, a path) is part of the name: another one is another anchor.
CREATE TABLE custody_anchors (
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    size INTEGER NOT NULL,
    anchored TEXT NOT NULL,
    PRIMARY KEY (name, subject)
) STRICT, WITHOUT ROWID;
