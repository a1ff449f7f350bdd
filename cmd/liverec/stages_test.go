package main

import (
	"testing"

	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/recorder"
)

// What of the open part counts beside the ledger's picture, which may be a second older or newer than the room's.
func TestBeyond(t *testing.T) {
	away := map[string]int64{"s3://b": 5}
	for _, c := range []struct {
		name   string
		room   status.Room
		seq    uint32
		more   int64
		isAway int64
	}{
		{"the ledger knows nothing yet", status.Room{}, 1, 100, 0},
		{"it knows a broadcast before", status.Room{Broadcast: "before", Newest: 7, Open: &status.Open{Seq: 1, Size: 60, Away: away}}, 1, 100, 0},
		{"it knows the beginning", status.Room{Broadcast: "this", Newest: 1, Open: &status.Open{Seq: 1, Size: 60, Away: away}}, 1, 40, 5},
		{"it knows more already", status.Room{Broadcast: "this", Newest: 1, Open: &status.Open{Seq: 1, Size: 130, Away: away}}, 1, 0, 5},
		{"the next part is new to it", status.Room{Broadcast: "this", Newest: 1, Open: &status.Open{Seq: 1, Size: 60, Away: away}}, 2, 100, 0},
		{"it has sealed it", status.Room{Broadcast: "this", Newest: 1}, 1, 0, 0},
		{"it has begun the next", status.Room{Broadcast: "this", Newest: 2, Open: &status.Open{Seq: 2, Size: 10, Away: away}}, 1, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			more, away := beyond(&c.room, "this", &recorder.Open{Seq: c.seq, Durable: 100})
			if more != c.more || away["s3://b"] != c.isAway {
				t.Errorf("%d more and %d away, want %d and %d", more, away["s3://b"], c.more, c.isAway)
			}
		})
	}
}
