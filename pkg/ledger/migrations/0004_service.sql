-- What a service keeps: the rooms of its page and the tokens of its API; and the newest broadcasts of one room, found at
-- once. Shipped: never edit.

CREATE TABLE page_rooms (
	n        INTEGER PRIMARY KEY,
	id       TEXT    NOT NULL UNIQUE,
	settings TEXT    NOT NULL,
	added    INTEGER NOT NULL,
	owner    TEXT    NOT NULL,
	epoch    INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
	n     INTEGER PRIMARY KEY,
	id    TEXT    NOT NULL UNIQUE,
	name  TEXT    NOT NULL,
	scope TEXT    NOT NULL,
	hash  BLOB    NOT NULL UNIQUE,
	made  INTEGER NOT NULL,
	used  INTEGER NOT NULL DEFAULT 0,
	owner TEXT    NOT NULL,
	epoch INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_of_room ON sessions (room, n);
