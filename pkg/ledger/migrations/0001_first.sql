-- The first ledger. Shipped: never edit, write the next number. SCHEMA.md explains every table.
-- All moments are UTC in microseconds since 1970, all spans are microseconds; 0 means "not yet" or "not known".

CREATE TABLE runs (
	epoch   INTEGER PRIMARY KEY,
	owner   TEXT    NOT NULL,
	host    TEXT    NOT NULL,
	pid     INTEGER NOT NULL,
	started INTEGER NOT NULL,
	ended   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE marks (
	name  TEXT    PRIMARY KEY,
	value TEXT    NOT NULL,
	owner TEXT    NOT NULL,
	epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rooms (
	n       INTEGER PRIMARY KEY,
	id      TEXT    NOT NULL UNIQUE,
	url     TEXT    NOT NULL,
	name    TEXT    NOT NULL,
	site    TEXT    NOT NULL,
	state   TEXT    NOT NULL,
	since   INTEGER NOT NULL,
	quality TEXT    NOT NULL DEFAULT '',
	why     TEXT    NOT NULL DEFAULT '',
	owner   TEXT    NOT NULL,
	epoch   INTEGER NOT NULL
) STRICT;

CREATE TABLE targets (
	n        INTEGER PRIMARY KEY,
	id       TEXT    NOT NULL UNIQUE,
	spec     TEXT    NOT NULL,
	required INTEGER NOT NULL,
	seen     INTEGER NOT NULL,
	owner    TEXT    NOT NULL,
	epoch    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
	n         INTEGER PRIMARY KEY,
	id        TEXT    NOT NULL UNIQUE,
	room      TEXT    NOT NULL,
	url       TEXT    NOT NULL,
	room_name TEXT    NOT NULL,
	site      TEXT    NOT NULL,
	streamer  TEXT    NOT NULL,
	title     TEXT    NOT NULL,
	name      TEXT    NOT NULL UNIQUE COLLATE NOCASE,
	started   INTEGER NOT NULL,
	heard     INTEGER NOT NULL,
	ended     INTEGER NOT NULL DEFAULT 0,
	complete  INTEGER NOT NULL DEFAULT 0,
	fenced    INTEGER NOT NULL DEFAULT 0,
	account   TEXT    NOT NULL DEFAULT '',
	owner     TEXT    NOT NULL,
	epoch     INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_unended ON sessions (room, n) WHERE ended = 0;
CREATE INDEX sessions_active ON sessions (n) WHERE complete = 0;

CREATE TABLE parts (
	n          INTEGER PRIMARY KEY,
	session    INTEGER NOT NULL REFERENCES sessions (n),
	seq        INTEGER NOT NULL CHECK (seq > 0),
	path       TEXT    NOT NULL,
	is_foreign INTEGER NOT NULL DEFAULT 0,
	start      INTEGER NOT NULL,
	duration   INTEGER NOT NULL DEFAULT 0,
	size       INTEGER NOT NULL DEFAULT 0 CHECK (size >= 0),
	head       INTEGER NOT NULL DEFAULT 0,
	sha256     BLOB    NOT NULL DEFAULT x'',
	video      INTEGER NOT NULL DEFAULT 0,
	audio      INTEGER NOT NULL DEFAULT 0,
	content    INTEGER NOT NULL DEFAULT 0,
	cut        TEXT    NOT NULL DEFAULT '',
	keep       INTEGER NOT NULL DEFAULT 0,
	heard      INTEGER NOT NULL DEFAULT 0,
	sealed     INTEGER NOT NULL DEFAULT 0,
	safe       INTEGER NOT NULL DEFAULT 0,
	reclaiming INTEGER NOT NULL DEFAULT 0,
	reclaimed  INTEGER NOT NULL DEFAULT 0,
	owner      TEXT    NOT NULL,
	epoch      INTEGER NOT NULL,
	UNIQUE (session, seq),
	CHECK (reclaiming = 0 OR (sealed <> 0 AND safe <> 0 AND is_foreign = 0)),
	CHECK (reclaimed = 0 OR reclaiming <> 0)
) STRICT;
CREATE INDEX parts_open ON parts (session, seq) WHERE sealed = 0;
CREATE INDEX parts_here ON parts (n) WHERE reclaimed = 0;

CREATE TABLE notes (
	session INTEGER PRIMARY KEY REFERENCES sessions (n),
	seq     INTEGER NOT NULL,
	state   BLOB    NOT NULL,
	owner   TEXT    NOT NULL,
	epoch   INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
	n          INTEGER PRIMARY KEY,
	part       INTEGER NOT NULL REFERENCES parts (n),
	target     INTEGER NOT NULL REFERENCES targets (n),
	required   INTEGER NOT NULL,
	key        TEXT    NOT NULL,
	state      TEXT    NOT NULL DEFAULT 'due'
	           CHECK (state IN ('due', 'opening', 'uploading', 'committing', 'committed', 'verified', 'parked')),
	before     TEXT    NOT NULL DEFAULT '',
	chunk      INTEGER NOT NULL DEFAULT 0,
	token      TEXT    NOT NULL DEFAULT '',
	receipt    TEXT    NOT NULL DEFAULT '',
	proof_size INTEGER NOT NULL DEFAULT 0,
	proof_sum  TEXT    NOT NULL DEFAULT '',
	proof_how  TEXT    NOT NULL DEFAULT '',
	proof_at   INTEGER NOT NULL DEFAULT 0,
	why        TEXT    NOT NULL DEFAULT '',
	since      INTEGER NOT NULL,
	owner      TEXT    NOT NULL,
	epoch      INTEGER NOT NULL,
	UNIQUE (part, target),
	CHECK ((state = 'verified') = (proof_at <> 0))
) STRICT;
CREATE INDEX deliveries_due ON deliveries (target, part) WHERE state <> 'verified';

CREATE TABLE acks (
	delivery INTEGER NOT NULL REFERENCES deliveries (n),
	idx      INTEGER NOT NULL,
	off      INTEGER NOT NULL,
	len      INTEGER NOT NULL,
	tag      TEXT    NOT NULL,
	sum      INTEGER NOT NULL,
	owner    TEXT    NOT NULL,
	epoch    INTEGER NOT NULL,
	PRIMARY KEY (delivery, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE gaps (
	n         INTEGER PRIMARY KEY,
	session   INTEGER NOT NULL REFERENCES sessions (n),
	after_seq INTEGER NOT NULL,
	at        INTEGER NOT NULL,
	at_media  INTEGER NOT NULL,
	length    INTEGER NOT NULL,
	why       TEXT    NOT NULL,
	owner     TEXT    NOT NULL,
	epoch     INTEGER NOT NULL,
	UNIQUE (session, after_seq, at_media, at, length, why)
) STRICT;

CREATE TABLE repairs (
	n        INTEGER PRIMARY KEY,
	session  INTEGER NOT NULL REFERENCES sessions (n),
	seq      INTEGER NOT NULL,
	at_media INTEGER NOT NULL,
	what     TEXT    NOT NULL,
	owner    TEXT    NOT NULL,
	epoch    INTEGER NOT NULL,
	UNIQUE (session, seq, at_media, what)
) STRICT;

CREATE TABLE publications (
	session  INTEGER NOT NULL REFERENCES sessions (n),
	target   INTEGER NOT NULL REFERENCES targets (n),
	required INTEGER NOT NULL,
	wanted   TEXT    NOT NULL DEFAULT '',
	shown    TEXT    NOT NULL DEFAULT '',
	parts    INTEGER NOT NULL DEFAULT 0,
	ended    INTEGER NOT NULL DEFAULT 0,
	token    TEXT    NOT NULL DEFAULT '',
	why      TEXT    NOT NULL DEFAULT '',
	since    INTEGER NOT NULL,
	owner    TEXT    NOT NULL,
	epoch    INTEGER NOT NULL,
	PRIMARY KEY (session, target)
) STRICT, WITHOUT ROWID;
