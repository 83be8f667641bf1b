-- Several tenants. `leaf` is the entry tenant.create, whose digest is over id, name, salt and uuid; the salt, so that nobody who has
-- the log alone can try names.
ALTER TABLE tenants ADD COLUMN salt BLOB;
ALTER TABLE tenants ADD COLUMN leaf INTEGER;

-- Commands name pools alone, so a name is given once over all tenants.
CREATE UNIQUE INDEX one_pool_name ON pools (name);
