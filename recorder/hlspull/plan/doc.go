// Package plan decides what a moving playlist means: which of its segments are new, which of them were seen under other
// numbers or names, what was missed, and whether the packager began anew.
//
// It owns the numbering of one rendition. It is pure: no goroutine, no I/O, no clock; a snapshot and the state go in,
// segments to fetch and events come out. It fetches nothing, and never decides that a listed segment is lost: that is a
// matter of deadlines, which package hlspull keeps.
//
// # Numbers
//
// A segment is (epoch, number). The number is the media sequence number of the list in which it was first seen, plus an
// offset that is 0 for a sane packager. An epoch ends when numbers begin anew. Numbers of an epoch are given out once
// and in rising order, each of them: what a list has skipped comes out as Unseen.
//
// # How a list is laid over what is known
//
//	an entry has a number and a path that are known together     the same numbering
//	… but all dates are newer than the newest one known          a new epoch with old names and numbers
//	the paths are known under other numbers                      the same segments, numbered anew: an offset
//	the paths are unknown, the dates are known                   the same segments under other names
//	… the last part of the path is known under its number        likewise (another edge, a token in the path)
//	nothing is known, the numbers are higher                     a stretch was missed, if time or names agree, else an epoch
//	nothing is known, the numbers are lower                      a new epoch if names contradict, dates are newer or the
//	                                                             numbers are far off; else an old copy of the list
//
// A new epoch that no dates prove needs a second list that fits the first: one that was cut off in the middle of a name
// looks like one too. An old copy of a list changes nothing. One that goes on moving for longer than it is long, with nothing newer between,
// is taken for a restart in the end; what is repeated then is found by its content, not here.
package plan
