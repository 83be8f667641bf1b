-- Custody entries that change the state of a key or a volume: by them the states in `keks`, `generations` and `volumes` are checked.
CREATE INDEX state_leaves_of_key ON custody_leaves (key, seq) WHERE op IN
    ('key.create', 'key.import', 'kek.rewrap', 'key.compromise', 'key.destroy', 'kek.deactivate', 'kek.destroy');
CREATE INDEX state_leaves_of_volume ON custody_leaves (volume, op, json_extract(leaf, '$.partition'), seq) WHERE op IN
    ('key.activate', 'key.compromise', 'volume.state');
