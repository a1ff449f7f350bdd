package status_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func broadcast() segment.Broadcast {
	room := segment.Room{ID: "direct:http://h/live.flv", URL: "http://h/live.flv", Name: "live", Site: "direct"}
	seg := func(seq uint32, sealed bool) segment.Segment {
		return segment.Segment{ID: segment.ID{Session: "01J", Seq: seq}, Size: 1000, Duration: time.Minute, Sealed: sealed,
			Start: now.Add(-time.Duration(3-seq) * time.Minute)}
	}
	b := segment.Broadcast{Session: segment.Session{ID: "01J", Room: room, Title: "hello", Started: now.Add(-3 * time.Minute)},
		Segments:   []segment.Segment{seg(1, true), seg(2, true), seg(3, false)},
		Deliveries: map[segment.TargetID][]segment.Delivery{}, Reclaimed: map[uint32]time.Time{1: now}}
	for _, s := range b.Segments {
		a := segment.Delivery{Segment: s, Target: "file:/a", Required: true, State: segment.Verified, Proof: segment.Proof{Size: 1000, At: now}}
		o := segment.Delivery{Segment: s, Target: "s3://b", Required: true, State: segment.Uploading}
		if s.ID.Seq == 1 {
			o.State, o.Proof = segment.Verified, a.Proof
		} else {
			o.Acks = []segment.Ack{{Chunk: segment.Chunk{Index: 1, Offset: 400, Length: 400}}}
		}
		if s.ID.Seq == 3 {
			a.State, a.Proof = segment.Due, segment.Proof{}
		}
		b.Deliveries["file:/a"] = append(b.Deliveries["file:/a"], a)
		b.Deliveries["s3://b"] = append(b.Deliveries["s3://b"], o)
	}
	return b
}

func TestMake(t *testing.T) {
	b := broadcast()
	b.Gaps = []segment.Gap{{Length: 4200 * time.Millisecond}, {Length: 10 * time.Second}}
	s := status.Make(status.Input{Now: now, Rooms: []status.RoomState{{Room: b.Session.Room, State: status.OnAir, Since: now}},
		Broadcasts: []segment.Broadcast{b}, Destinations: []segment.Destination{{ID: "file:/a", Required: true}, {ID: "s3://b", Required: true}}, WithParts: true})
	if s.UnsafeBytes != 2000 || s.Rooms[0].UnsafeBytes != 2000 || s.OldestUnsafeSeconds != 60 {
		t.Errorf("unsafe: %d, room %d, oldest %v", s.UnsafeBytes, s.Rooms[0].UnsafeBytes, s.OldestUnsafeSeconds)
	}
	want := []status.Target{
		{Target: "file:/a", Required: true, State: "ok", DueParts: 1, DueBytes: 1000},
		{Target: "s3://b", Required: true, State: "ok", DueParts: 2, DueBytes: 1200, OldestDueSeconds: 60},
	}
	if d := cmp.Diff(want, s.Targets); d != "" {
		t.Error(d)
	}
	if o := s.Rooms[0].Open; o == nil || o.Seq != 3 || o.Away["s3://b"] != 400 || o.Away["file:/a"] != 0 {
		t.Errorf("open: %+v", o)
	}
	if s.Rooms[0].Gaps != 2 || s.Rooms[0].GapSeconds != 14.2 {
		t.Errorf("gaps: %d, %v", s.Rooms[0].Gaps, s.Rooms[0].GapSeconds)
	}
	if len(s.Parts) != 3 || s.Parts[0].Local != "reclaimed" || s.Parts[1].Local != "sealed" || s.Parts[2].Local != "open" ||
		s.Parts[0].Deliveries[0].Proof == nil || s.Parts[1].Deliveries[1].Proof != nil {
		t.Errorf("parts: %+v", s.Parts)
	}
	j, err := json.Marshal(status.Make(status.Input{Now: now}))
	if err != nil || !strings.Contains(string(j), `"running":null,"rooms":[],"targets":[]`) {
		t.Errorf("an empty one: %s, %v", j, err)
	}
}

func TestReport(t *testing.T) {
	b := broadcast()
	if got, want := status.MakeReport(b).String(), "100 % recorded, no gaps, 1 of 3 parts verified on 2 targets"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	b.Gaps = []segment.Gap{{Length: 41 * time.Second}, {Length: time.Millisecond}}
	b.Deliveries["s3://b"][1].State = segment.Parked
	if got, want := status.MakeReport(b).String(), "81.4 % recorded, 2 gaps, longest 41 s, 1 of 3 parts verified on 2 targets, 1 waiting for a person"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	b.Gaps = []segment.Gap{{Length: time.Millisecond}}
	if got := status.MakeReport(b).String(); !strings.HasPrefix(got, "99.9 % recorded, 1 gap of") {
		t.Errorf("%s", got)
	}
}

func TestReportOfFilesThatWereOnlySent(t *testing.T) {
	b := broadcast()
	for i := range b.Segments {
		b.Segments[i].Duration = 0
	}
	if got, want := status.MakeReport(b).String(), "1 of 3 parts verified on 2 targets"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{400 * time.Millisecond: "0.4 s", 41 * time.Second: "41 s", 723 * time.Second: "12 min 3 s",
		2 * time.Minute: "2 min", 3*time.Hour + 2*time.Minute: "3 h 2 min"} {
		if got := status.Span(d); got != want {
			t.Errorf("Span(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1300: "1.3 kB", 999_600: "1.0 MB", 3_100_000_000: "3.1 GB", 12_345_678: "12 MB"} {
		if got := status.Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
	if got := status.Rate(8_190_000); got != "8.2 Mbit/s" {
		t.Errorf("Rate: %q", got)
	}
}
