ALTER TABLE volumes ADD COLUMN cartridge_serial TEXT;
ALTER TABLE volumes ADD COLUMN written TEXT;
ALTER TABLE pools ADD COLUMN auto_label TEXT;
