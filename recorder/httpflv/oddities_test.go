package httpflv

import (
	"bytes"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media/flv"
)

func TestOdditiesAreToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		o := NewOddities(zerolog.New(&buf))
		for range 200 {
			o.add("a:80", flv.Event{Kind: flv.EventJunk, Bytes: 10, Offset: 7, Head: bytes.Repeat([]byte{0xab}, 64)})
			o.add("a:80", flv.Event{Kind: flv.EventTracks, What: "video 2"})
			time.Sleep(time.Second)
		}
		type line struct {
			Level, What, Which, Head, Host string
			Count, Bytes                   int64
		}
		lines := map[string][]line{}
		for d := json.NewDecoder(&buf); d.More(); {
			var l line
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			lines[l.What] = append(lines[l.What], l)
		}
		junk, tracks := lines[flv.EventJunk.String()], lines[flv.EventTracks.String()]
		if len(junk) != 4 || len(tracks) != 4 || len(lines) != 2 {
			t.Fatalf("lines: %+v", lines)
		}
		if got, want := junk[1], (line{"warn", flv.EventJunk.String(), "", "abababababababababababababababab", "a:80", 60, 600}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if tracks[0].Which != "video 2" || tracks[0].Count != 1 {
			t.Errorf("%+v", tracks[0])
		}
	})
}
