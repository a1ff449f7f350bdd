package manifest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// Prefix returns the longest run of proven parts from the first one on, in Seq order: what a list may show (I4). It
// stops at the first part that is not Listable, still open or missing. parts are the deliveries of one session on one
// target, in any order; a number that was voided is in none of them. A target that was not wanted when a part was
// recorded has no delivery of it, and such a part is no hole in what that target can show.
//
// parts itself is not changed.
func Prefix(parts []segment.Delivery) []segment.Delivery {
	sorted := slices.Clone(parts)
	slices.SortStableFunc(sorted, func(a, b segment.Delivery) int { return cmp.Compare(a.Segment.ID.Seq, b.Segment.ID.Seq) })
	for i, d := range sorted {
		if !d.Listable() || !d.Segment.Sealed {
			return sorted[:i]
		}
	}
	return sorted
}

// Make tells of the broadcast what target t may show now: the longest proven prefix of the parts, the gaps and
// repairs up to its end, and the end of the broadcast once everything before it is listed. The same facts always
// give the same manifest, to the byte.
func Make(b segment.Broadcast, t segment.TargetID) Manifest {
	m := Manifest{
		Format: Format, Site: b.Session.Room.Site, Room: b.Session.Room.URL, Streamer: b.Session.Streamer,
		Title: b.Session.Title, Broadcast: string(b.Session.ID), Started: stamp(b.Session.Started),
		Parts: []Part{}, Gaps: []Gap{}, Repairs: []Repair{},
	}
	listed := Prefix(b.Deliveries[t])
	for _, d := range listed {
		s := d.Segment
		p := Part{
			Seq: s.ID.Seq, Name: name(d, b.Session), Size: s.Size, SHA256: s.SHA256.String(), Started: stamp(s.Start),
			DurationMS: s.Duration.Milliseconds(), VideoFrames: s.VideoFrames, AudioFrames: s.AudioFrames,
			Cut: string(s.Cut),
		}
		if s.Content != 0 {
			p.Content = fmt.Sprintf("%016x", s.Content)
		}
		m.Parts = append(m.Parts, p)
	}
	whole := len(listed) == len(b.Deliveries[t]) && !slices.ContainsFunc(b.Segments, func(s segment.Segment) bool { return !s.Sealed })
	var last uint32 // of the session, as far as this list speaks
	if n := len(listed); n > 0 {
		last = listed[n-1].Segment.ID.Seq
	}
	if n := len(b.Segments); whole && n > 0 {
		last = max(last, b.Segments[n-1].ID.Seq)
	}
	for _, g := range b.Gaps {
		if g.AfterSeq <= last {
			m.Gaps = append(m.Gaps, Gap{AfterSeq: g.AfterSeq, AtMS: g.AtMedia.Milliseconds(), At: stamp(g.At), Seconds: seconds(g.Length), Why: g.Why})
		}
	}
	m.Gaps = append(m.Gaps, elsewhere(b, t, last)...)
	slices.SortStableFunc(m.Gaps, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.AfterSeq, b.AfterSeq), cmp.Compare(a.AtMS, b.AtMS), a.At.Compare(b.At))
	})
	for _, r := range b.Repairs {
		if r.Seq <= last {
			m.Repairs = append(m.Repairs, Repair{Seq: r.Seq, AtMS: r.AtMedia.Milliseconds(), What: r.What})
		}
	}
	slices.SortStableFunc(m.Repairs, func(a, b Repair) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.AtMS, b.AtMS))
	})
	if whole && !b.Session.Ended.IsZero() {
		end := stamp(b.Session.Ended)
		m.Ended = &end
	}
	m.Account = account(b.Session.Account)
	return m
}

// elsewhere makes a gap of each stretch of parts that this target was never meant to have: it was added to the room,
// or taken from it, in the middle of the broadcast. A list with a hole must say so.
func elsewhere(b segment.Broadcast, t segment.TargetID, last uint32) []Gap {
	mine := make(map[uint32]bool, len(b.Deliveries[t]))
	for _, d := range b.Deliveries[t] {
		mine[d.Segment.ID.Seq] = true
	}
	var gaps []Gap
	var before segment.Segment
	for i := 0; i < len(b.Segments) && b.Segments[i].ID.Seq <= last; i++ {
		s := b.Segments[i]
		if mine[s.ID.Seq] {
			before = s
			continue
		}
		from, length := s.ID.Seq, s.Duration
		for i+1 < len(b.Segments) && b.Segments[i+1].ID.Seq <= last && !mine[b.Segments[i+1].ID.Seq] {
			i++
			length += b.Segments[i].Duration
		}
		gaps = append(gaps, Gap{
			AfterSeq: before.ID.Seq, AtMS: before.Duration.Milliseconds(), At: stamp(s.Start), Seconds: seconds(length),
			Why: fmt.Sprintf("parts %d to %d were not sent to this target", from, b.Segments[i].ID.Seq),
		})
	}
	return gaps
}

// name is what a reader of the manifest calls the file: relative to the manifest itself.
func name(d segment.Delivery, s segment.Session) string {
	if rest, ok := strings.CutPrefix(d.Key, s.Name+"/"); ok && rest != "" {
		return rest
	}
	if d.Key != "" {
		return path.Base(d.Key)
	}
	return path.Base(d.Segment.Path)
}

func account(a segment.Account) *Account {
	if a == (segment.Account{}) {
		return nil
	}
	out := &Account{
		Balanced: true, Received: a.ReceivedBytes, Parsed: a.Parsed, Written: a.Written,
		Dropped: map[string]int64{
			"duplicates": a.Duplicates, "pre_roll": a.PreRoll, "headers": a.Headers, "scripts": a.Scripts,
			"end_marks": a.EndMarks, "invalid": a.Invalid, "disk_stalled": a.Dropped,
		},
	}
	if err := a.Check(); err != nil {
		out.Balanced, out.Error = false, err.Error()
	}
	return out
}

// stamp is a time as the manifest shows it: UTC, whole milliseconds, and a year that JSON can write.
func stamp(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Millisecond)
	if y := t.Year(); y < 0 || y > 9999 {
		return time.Time{}
	}
	return t
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// Encode writes the manifest as it stands on a store: indented JSON with a newline at its end. Equal manifests give
// equal bytes.
func (m Manifest) Encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(m); err != nil {
		panic("manifest: " + err.Error()) // only a time that stamp and Parse do not let in
	}
	return b.Bytes()
}

// Digest is the SHA-256 of what Encode writes, in hex: the name of this state of the list.
func (m Manifest) Digest() string { return Digest(m.Encode()) }

// Digest is the SHA-256 of an encoded manifest, in hex.
func Digest(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}

// Parse reads a manifest back. It refuses what is not of this format, has parts out of order, or names a part
// outside its own folder.
func Parse(data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	if m.Format != Format {
		return Manifest{}, fmt.Errorf("read manifest: the format is %.40q, this program knows %q", m.Format, Format)
	}
	var before uint32
	for _, p := range m.Parts {
		switch {
		case p.Seq <= before:
			return Manifest{}, fmt.Errorf("read manifest: part %d stands after part %d", p.Seq, before)
		case p.Name == "" || path.IsAbs(p.Name) || path.Clean(p.Name) != p.Name || p.Name == ".." || strings.HasPrefix(p.Name, "../"):
			return Manifest{}, fmt.Errorf("read manifest: part %d has the name %.80q", p.Seq, p.Name)
		case p.Size < 0:
			return Manifest{}, fmt.Errorf("read manifest: part %d has %d bytes", p.Seq, p.Size)
		}
		before = p.Seq
	}
	if m.Parts == nil {
		m.Parts = []Part{}
	}
	if m.Gaps == nil {
		m.Gaps = []Gap{}
	}
	if m.Repairs == nil {
		m.Repairs = []Repair{}
	}
	return m, nil
}
