package manifest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
)

const target segment.TargetID = "file:/srv/archive"

var began = time.Date(2026, 1, 2, 11, 4, 5, 123_456_789, time.FixedZone("CST", 8*3600))

// broadcast makes one with n sealed parts, of which the states say how far each is on target.
func broadcast(states ...segment.DeliveryState) segment.Broadcast {
	b := segment.Broadcast{
		Session: segment.Session{
			ID: "01JABC", Room: segment.Room{ID: "direct:http://h/live.flv", URL: "http://h/live.flv", Site: "direct"},
			Streamer: "alice", Title: "<hello> & \u2028", Name: "h/2026-01-02_030405", Started: began,
		},
		Deliveries: map[segment.TargetID][]segment.Delivery{},
	}
	for i, st := range states {
		s := segment.Segment{
			ID: segment.ID{Session: b.Session.ID, Seq: uint32(i + 1)}, Path: fmt.Sprintf("media/01JABC/P%04d.flv", i+1),
			Start: began.Add(time.Duration(i) * time.Minute), Duration: 60_033 * time.Millisecond, Size: 1000 + int64(i),
			SHA256: segment.Sum{byte(i + 1)}, VideoFrames: 1800, AudioFrames: 2800, Content: 0xabc, Cut: segment.CutTime, Sealed: true,
		}
		b.Segments = append(b.Segments, s)
		b.Deliveries[target] = append(b.Deliveries[target], segment.Delivery{
			Segment: s, Target: target, Required: true, State: st, Key: b.Session.Name + "/" + s.ID.Base() + ".flv",
		})
	}
	return b
}

func seqs(m manifest.Manifest) []uint32 {
	out := []uint32{}
	for _, p := range m.Parts {
		out = append(out, p.Seq)
	}
	return out
}

func TestMake(t *testing.T) {
	v, c, d := segment.Verified, segment.Committed, segment.Due
	ended := func(b segment.Broadcast) segment.Broadcast {
		b.Session.Ended = began.Add(time.Hour)
		return b
	}
	gaps := func(b segment.Broadcast, after ...uint32) segment.Broadcast {
		for _, a := range after {
			b.Gaps = append(b.Gaps, segment.Gap{AfterSeq: a, At: began, AtMedia: 412_033 * time.Millisecond, Length: 4200 * time.Millisecond, Why: "source closed the connection"})
			b.Repairs = append(b.Repairs, segment.Repair{Seq: a, What: "clock jumped"})
		}
		return b
	}
	open := func(b segment.Broadcast) segment.Broadcast {
		n := len(b.Segments)
		b.Segments[n-1].Sealed = false
		b.Deliveries[target][n-1].Segment.Sealed = false
		return b
	}
	without := func(b segment.Broadcast, seq ...uint32) segment.Broadcast {
		b.Deliveries[target] = slices.DeleteFunc(b.Deliveries[target], func(d segment.Delivery) bool { return slices.Contains(seq, d.Segment.ID.Seq) })
		return b
	}
	for _, tt := range []struct {
		name  string
		in    segment.Broadcast
		parts []uint32
		gaps  []uint32
		ended bool
	}{
		{"nothing yet", broadcast(), []uint32{}, nil, false},
		{"nothing at all, over", ended(broadcast()), []uint32{}, nil, true},
		{"all proven, live", broadcast(v, v, v), []uint32{1, 2, 3}, nil, false},
		{"all proven, over", ended(broadcast(v, v, v)), []uint32{1, 2, 3}, nil, true},
		{"committed is not proven", broadcast(v, c, v), []uint32{1}, nil, false},
		{"the first is missing", ended(broadcast(d, v, v)), []uint32{}, nil, false},
		{"the last is missing", ended(broadcast(v, v, d)), []uint32{1, 2}, nil, false},
		{"the last is open", ended(open(broadcast(v, v, d))), []uint32{1, 2}, nil, false},
		{"gaps up to the last listed part", gaps(broadcast(v, v, d), 0, 1, 2, 3), []uint32{1, 2}, []uint32{0, 1, 2}, false},
		{"a gap before anything is listed", gaps(broadcast(d), 0, 1), []uint32{}, []uint32{0}, false},
		{"the gap at the end of the broadcast", ended(gaps(broadcast(v, v), 2)), []uint32{1, 2}, []uint32{2}, true},
		{"target added in the middle", ended(without(broadcast(v, v, v, v), 1, 2)), []uint32{3, 4}, []uint32{0}, true},
		{"target left in the middle", ended(without(broadcast(v, v, v, v), 3, 4)), []uint32{1, 2}, []uint32{2}, true},
		{"target away for a while", without(broadcast(v, v, v, v), 2, 3), []uint32{1, 4}, []uint32{1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := manifest.Make(tt.in, target)
			if d := cmp.Diff(tt.parts, seqs(m)); d != "" {
				t.Errorf("parts:\n%s", d)
			}
			var after []uint32
			for _, g := range m.Gaps {
				after = append(after, g.AfterSeq)
			}
			if d := cmp.Diff(tt.gaps, after); d != "" {
				t.Errorf("gaps:\n%s", d)
			}
			if got := m.Ended != nil; got != tt.ended {
				t.Errorf("ended = %v, want %v", got, tt.ended)
			}
			if m.Parts == nil || m.Gaps == nil || m.Repairs == nil {
				t.Error("an array is null")
			}
		})
	}
}

func TestEncodeIsTheContract(t *testing.T) {
	b := broadcast(segment.Verified)
	b.Gaps = []segment.Gap{{AfterSeq: 1, At: began, AtMedia: 412_033 * time.Millisecond, Length: 4200 * time.Millisecond, Why: "source closed the connection"}}
	b.Repairs = []segment.Repair{{Seq: 1, AtMedia: 412_033 * time.Millisecond, What: "clock jumped ahead by 90 s"}}
	b.Session.Ended = began.Add(3 * time.Hour)
	b.Session.Account = segment.Account{ReceivedBytes: 10, TagBytes: 10, Parsed: 3, Written: 1, Duplicates: 1}
	want := `{
 "format": "liverec/1",
 "site": "direct",
 "room": "http://h/live.flv",
 "streamer": "alice",
 "title": "<hello> & \u2028",
 "broadcast": "01JABC",
 "started": "2026-01-02T03:04:05.123Z",
 "ended": "2026-01-02T06:04:05.123Z",
 "parts": [
  {
   "seq": 1,
   "name": "P0001.flv",
   "size": 1000,
   "sha256": "0100000000000000000000000000000000000000000000000000000000000000",
   "started": "2026-01-02T03:04:05.123Z",
   "duration_ms": 60033,
   "video_frames": 1800,
   "audio_frames": 2800,
   "cut": "time",
   "content": "0000000000000abc"
  }
 ],
 "gaps": [
  {
   "after_seq": 1,
   "at_ms": 412033,
   "at": "2026-01-02T03:04:05.123Z",
   "seconds": 4.2,
   "why": "source closed the connection"
  }
 ],
 "repairs": [
  {
   "seq": 1,
   "at_ms": 412033,
   "what": "clock jumped ahead by 90 s"
  }
 ],
 "account": {
  "balanced": false,
  "error": "tags do not balance: parsed 3, accounted for 2",
  "received_bytes": 10,
  "parsed": 3,
  "written": 1,
  "dropped": {
   "disk_stalled": 0,
   "duplicates": 1,
   "end_marks": 0,
   "headers": 0,
   "invalid": 0,
   "pre_roll": 0,
   "scripts": 0
  }
 }
}
`
	m := manifest.Make(b, target)
	if d := cmp.Diff(want, string(m.Encode())); d != "" {
		t.Fatalf("manifest (-want +got):\n%s", d)
	}
	back, err := manifest.Parse(m.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, back); d != "" {
		t.Fatalf("read back:\n%s", d)
	}
	if m.Digest() != manifest.Digest([]byte(want)) {
		t.Error("the digest is not that of the encoded bytes")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"no JSON", "<html>", "read manifest: invalid character '<'"},
		{"another format", `{"format":"liverec/9"}`, `the format is "liverec/9"`},
		{"parts out of order", `{"format":"liverec/1","parts":[{"seq":2,"name":"a"},{"seq":1,"name":"b"}]}`, "part 1 stands after part 2"},
		{"twice the same part", `{"format":"liverec/1","parts":[{"seq":2,"name":"a"},{"seq":2,"name":"b"}]}`, "part 2 stands after part 2"},
		{"a name outside", `{"format":"liverec/1","parts":[{"seq":1,"name":"../../etc/passwd"}]}`, `part 1 has the name "../../etc/passwd"`},
		{"an absolute name", `{"format":"liverec/1","parts":[{"seq":1,"name":"/etc/passwd"}]}`, `part 1 has the name "/etc/passwd"`},
		{"no name", `{"format":"liverec/1","parts":[{"seq":1}]}`, `part 1 has the name ""`},
		{"a negative size", `{"format":"liverec/1","parts":[{"seq":1,"name":"a","size":-1}]}`, "part 1 has -1 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := manifest.Parse([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Parse: %v, want %q in it", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(manifest.Make(broadcast(segment.Verified, segment.Verified), target).Encode())
	f.Add([]byte(`{"format":"liverec/1","parts":null}`))
	f.Add([]byte(`{"format":"liverec/1","account":{"dropped":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := manifest.Parse(data)
		if err != nil {
			return
		}
		once := m.Encode()
		again, err := manifest.Parse(once)
		if err != nil {
			t.Fatalf("what was read and written cannot be read: %v", err)
		}
		if d := cmp.Diff(string(once), string(again.Encode())); d != "" {
			t.Fatalf("not stable:\n%s", d)
		}
	})
}

func TestI4_PrefixIsTheLongestProvenOne(t *testing.T) {
	states := []segment.DeliveryState{segment.Due, segment.Opening, segment.Uploading, segment.Committing, segment.Committed, segment.Verified, segment.Parked}
	rapid.Check(t, func(t *rapid.T) {
		b := broadcast(rapid.SliceOfN(rapid.OneOf(rapid.Just(segment.Verified), rapid.SampledFrom(states)), 0, 12).Draw(t, "states")...)
		want := 0
		for _, d := range b.Deliveries[target] {
			if d.State != segment.Verified {
				break
			}
			want++
		}
		shuffled := slices.Clone(b.Deliveries[target])
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		before := slices.Clone(shuffled)
		got := manifest.Prefix(shuffled)
		if len(got) != want {
			t.Fatalf("%d parts, want %d", len(got), want)
		}
		for i, d := range got {
			if d.Segment.ID.Seq != uint32(i+1) || d.State != segment.Verified {
				t.Fatalf("part %d is %s, %s", i, d.Segment.ID, d.State)
			}
		}
		if d := cmp.Diff(before, shuffled); d != "" {
			t.Fatalf("Prefix changed its argument:\n%s", d)
		}
		// One more proof never shortens the list, and the same facts in another order give the same bytes.
		b.Deliveries[target] = shuffled
		a := manifest.Make(b, target)
		if n := len(shuffled); n > 0 {
			shuffled[rapid.IntRange(0, n-1).Draw(t, "proven")].State = segment.Verified
		}
		if after := manifest.Make(b, target); len(after.Parts) < len(a.Parts) {
			t.Fatalf("a proof made the list shorter: %d, then %d", len(a.Parts), len(after.Parts))
		}
	})
}
