-- Targets whose list is the proof: the object is there and whole, and the list does not show it yet. Shipped: never edit.

ALTER TABLE deliveries ADD COLUMN stored INTEGER NOT NULL DEFAULT 0;
