package flv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

func scan(t testing.TB, b []byte, cfg ScanConfig) *Scanned {
	t.Helper()
	s, err := Scan(bytes.NewReader(b), int64(len(b)), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestScanFindsWhatWasWritten(t *testing.T) {
	fs := frames(3, 500, 50)
	h, b := part(t, time.Minute, fs)
	s := scan(t, b, ScanConfig{})
	if s.End != int64(len(b)) || s.HeadLen != h.Len() || !s.HeadSound || s.HeadErr != nil {
		t.Fatalf("scanned %+v", s)
	}
	if !bytes.Equal(s.Config.Video, videoConfig) || !bytes.Equal(s.Config.Audio, audioConfig) {
		t.Fatal("other sequence headers")
	}
	if !bytes.Equal(s.Head.Patch(), h.Patch()) {
		t.Fatal("another head")
	}
	v, a := h.Frames()
	if s.Video.Frames != v || s.Audio.Frames != a || s.Video.First != 0 || s.Video.Last != 499*40 || s.Audio.Last != int64(fs[len(fs)-1].dts) ||
		s.Others != 0 || s.Reconfigured != 0 || b[s.LastKey+11] != 0x17 {
		t.Fatalf("scanned %+v", s)
	}
}

func TestScanTorn(t *testing.T) {
	fs := frames(3, 6, 3)
	_, whole := part(t, 5*time.Second, fs)
	ref, err := NewHead(HeadConfig{Video: videoConfig, Audio: audioConfig, Meta: script(t, whole), Limit: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	end, next := ref.Len(), 0
	first, thin := some(5)
	for cut := ref.Len(); cut <= int64(len(whole)); cut++ {
		if next < len(fs) && cut == end+int64(len(fs[next].body)+TagOverhead) {
			ref.Add(fs[next].typ, int64(fs[next].dts), len(fs[next].body), Classify(fs[next].typ, fs[next].body).Key)
			end, next = cut, next+1
		}
		if next < len(fs) && cut-end > 30 && cut < end+int64(len(fs[next].body)) && cut%17 != 0 {
			continue // in the middle of a body every byte is like the next
		}
		if cut != end && int(cut)%thin != first {
			continue
		}
		for name, tail := range map[string][]byte{"": nil, "zeros": make([]byte, 5000), "noise": {9, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x27}} {
			if name == "noise" && cut != end {
				continue // half a tag and noise may look whole
			}
			s := scan(t, append(bytes.Clone(whole[:cut]), tail...), ScanConfig{})
			if name == "zeros" && s.End > end && next < len(fs) { // zeros can complete a tag, but never its PreviousTagSize
				t.Fatalf("cut at %d, then zeros: end %d, want %d", cut, s.End, end)
			}
			if s.End != end || s.Head == nil || s.Head.Size() != end || !bytes.Equal(s.Head.Patch(), ref.Patch()) {
				t.Fatalf("cut at %d, then %q: end %d, want %d", cut, name, s.End, end)
			}
		}
	}
	if next != len(fs) {
		t.Fatalf("only %d of %d tags were met", next, len(fs))
	}
}

func TestScanTornHead(t *testing.T) {
	fs := frames(3, 800, 25)
	h, b := part(t, 10*time.Minute, fs[:len(fs)/2])
	old := bytes.Clone(h.Patch())
	for _, f := range fs[len(fs)/2:] {
		b = f.append(b)
		h.Add(f.typ, int64(f.dts), len(f.body), Classify(f.typ, f.body).Key)
	}
	want := bytes.Clone(h.Patch())
	n := len(want)
	check := func(name string, head []byte, cfg ScanConfig) {
		t.Helper()
		f := append(bytes.Clone(head), b[n:]...)
		s := scan(t, f, cfg)
		if s.End != int64(len(b)) || s.HeadLen != int64(n) || s.Head == nil {
			t.Fatalf("%s: end %d of %d, head %d of %d: %v", name, s.End, len(b), s.HeadLen, n, s.HeadErr)
		}
		got := s.Head.Patch()
		// The server's own keys may be gone; everything before them is the same.
		keep := 13 + 11 + 3 + 20
		if len(got) != n || !bytes.Equal(got[keep:n-2000], want[keep:n-2000]) || !bytes.Equal(got[n-87:], want[n-87:]) {
			t.Fatalf("%s: the head was not laid out as before", name)
		}
		copy(f, got)
		if again := scan(t, f, ScanConfig{}); !again.HeadSound || !bytes.Equal(again.Head.Patch(), got) {
			t.Fatalf("%s: the repaired file is not sound", name)
		}
	}
	for at := 0; at <= n; at += 512 {
		check("new, then old", append(bytes.Clone(want[:at]), old[at:]...), ScanConfig{})
		check("old, then new", append(bytes.Clone(old[:at]), want[at:]...), ScanConfig{HeadLen: int64(n)})
	}
	garbage := bytes.Repeat([]byte{0xA5}, n)
	inside := bytes.Clone(want)
	copy(inside[40:n-200], garbage)
	check("garbage in the script", inside, ScanConfig{})
	front := bytes.Clone(want)
	copy(front[:600], garbage)
	check("garbage in front", front, ScanConfig{HeadLen: int64(n)})
	size := bytes.Clone(want)
	size[14], size[15] = 0, 1
	check("garbage as size", size, ScanConfig{HeadLen: int64(n)})
	known := ScanConfig{HeadLen: int64(n), Video: videoConfig, Audio: audioConfig}
	check("all zeros", make([]byte, n), known)
	check("all garbage", garbage, known)
	// Without the sequence headers there is no head, but the media is still found.
	s := scan(t, append(bytes.Clone(garbage), b[n:]...), ScanConfig{HeadLen: int64(n)})
	if s.Head != nil || !errors.Is(s.HeadErr, ErrBadConfig) || s.End != int64(len(b)) {
		t.Fatalf("scanned %+v", s)
	}
}

func TestScanTellsTheEnd(t *testing.T) {
	fs := frames(3, 3000, 50)
	h, b := part(t, time.Minute, fs)
	last := int64(fs[len(fs)-1].dts)
	offsets := make([]int64, len(fs))
	at := h.Len()
	for i, f := range fs {
		offsets[i] = at
		at += int64(len(f.body) + TagOverhead)
	}
	for name, tc := range map[string]struct {
		cfg  ScanConfig
		want func(i int) bool
	}{
		"30 s":          {ScanConfig{Last: 30 * time.Second}, func(i int) bool { return int64(fs[i].dts) >= last-30_000 }},
		"1 ms":          {ScanConfig{Last: time.Millisecond}, func(i int) bool { return int64(fs[i].dts) >= last-1 }},
		"all":           {ScanConfig{From: 1}, func(int) bool { return true }},
		"from":          {ScanConfig{From: offsets[4000]}, func(i int) bool { return i >= 4000 }},
		"from or 100 s": {ScanConfig{From: offsets[4000], Last: 100 * time.Second}, func(i int) bool { return int64(fs[i].dts) >= last-100_000 }},
		"from and 1 s":  {ScanConfig{From: offsets[100], Last: time.Second}, func(i int) bool { return i >= 100 }},
		"more than all": {ScanConfig{Last: time.Hour}, func(int) bool { return true }},
		"nothing":       {ScanConfig{}, func(int) bool { return false }},
	} {
		next := 0
		skip := func() {
			for next < len(fs) && !tc.want(next) {
				next++
			}
		}
		tc.cfg.Tag = func(g Tag) error {
			if skip(); next == len(fs) {
				t.Fatalf("%s: one tag too many", name)
			}
			f := fs[next]
			if g.Offset != offsets[next] || g.Type != f.typ || g.DTS != int64(f.dts) || !bytes.Equal(g.Body, f.body) || g.Sum != Sum(f.typ, f.body) ||
				g.Key != Classify(f.typ, f.body).Key {
				t.Fatalf("%s: tag %d is another one", name, next)
			}
			next++
			return nil
		}
		scan(t, b, tc.cfg)
		if skip(); next != len(fs) {
			t.Fatalf("%s: only up to tag %d of %d", name, next, len(fs))
		}
	}
	enough := errors.New("enough")
	if _, err := Scan(bytes.NewReader(b), int64(len(b)), ScanConfig{From: 1, Tag: func(Tag) error { return enough }}); !errors.Is(err, enough) {
		t.Fatal(err)
	}
}

func TestScanForeign(t *testing.T) {
	fs := frames(3, 50, 10)
	// Another recorder's file: small script, PreviousTagSize 0, a changed sequence header, an end mark, junk at the end.
	b := stream(heads()...)
	headLen := int64(len(b))
	for _, f := range fs {
		b = f.append(b)
		binary.BigEndian.PutUint32(b[len(b)-4:], 0)
	}
	b = AppendTag(b, TagVideo, 2000, videoConfig)
	b = AppendTag(b, TagAudio, 2000, unhex("af001190"))
	b = AppendEndMark(b, 2000)
	end := int64(len(b))
	b = append(b, "<html>"...)
	s := scan(t, b, ScanConfig{})
	if s.End != end || s.HeadLen != headLen || !s.HeadSound || s.Head != nil || s.HeadErr == nil || s.Others != 3 || s.Reconfigured != 1 ||
		s.Video.Frames != 50 || s.Audio.Frames != int64(len(fs)-50) {
		t.Fatalf("scanned %+v", s)
	}
	if e, _ := s.Meta.Get("encoder"); e.Text != "obs" {
		t.Fatalf("metadata %+v", s.Meta)
	}
	// No script at all.
	b = stream(append(heads()[1:], fs...)...)
	if s := scan(t, b, ScanConfig{}); s.End != int64(len(b)) || s.Head != nil || s.HeadSound || s.Config.Video == nil {
		t.Fatalf("scanned %+v", s)
	}
	for name, b := range map[string][]byte{"empty": nil, "short": []byte("FLV\x01"), "HTML": bytes.Repeat([]byte("<html>"), 50), "zeros": make([]byte, 5000)} {
		for _, head := range []int64{0, 100, 1 << 40} {
			if _, err := Scan(bytes.NewReader(b), int64(len(b)), ScanConfig{HeadLen: head}); !errors.Is(err, ErrNotFLV) {
				t.Errorf("%s, head of %d: %v", name, head, err)
			}
		}
	}
	// A file that was cut inside its head has no media, and is no error.
	h, b := part(t, time.Minute, nil)
	if s := scan(t, b[:500], ScanConfig{HeadLen: h.Len()}); s.End > 500 || s.Head != nil {
		t.Fatalf("scanned %+v", s)
	}
}

type brokenAt struct {
	b  []byte
	at int64
}

var errDisk = errors.New("input/output error")

func (r brokenAt) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > r.at {
		return 0, errDisk
	}
	return bytes.NewReader(r.b).ReadAt(p, at)
}

func TestScanReadErrors(t *testing.T) {
	h, b := part(t, time.Minute, frames(3, 50, 10))
	for at := int64(0); at < int64(len(b)); at += 97 {
		_, err := Scan(brokenAt{b, at}, int64(len(b)), ScanConfig{From: 1, HeadLen: h.Len(), Tag: func(Tag) error { return nil }})
		if !errors.Is(err, errDisk) {
			t.Fatalf("broken at %d: %v", at, err)
		}
	}
	if _, err := Scan(bytes.NewReader(b), int64(len(b))+1000, ScanConfig{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("a file that shrank: %v", err)
	}
}

// TestScanGoesOn: what a crash left is gone on with, and the file is the one that was never interrupted.
func TestScanGoesOn(t *testing.T) {
	fs := frames(3, 300, 25)
	_, want := part(t, time.Minute, fs)
	r := rand.New(rand.NewPCG(1, 9))
	for range 50 {
		h, err := NewHead(HeadConfig{Video: videoConfig, Audio: audioConfig, Meta: script(t, want), Limit: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		n := r.IntN(len(fs))
		patched := r.IntN(n + 1)
		b := write(h, fs[:patched])
		copy(b, h.Patch())
		for _, f := range fs[patched:n] {
			b = f.append(b)
		}
		b = append(b, fs[n].append(nil)[:r.IntN(len(fs[n].body)+TagOverhead)]...)
		s := scan(t, b, ScanConfig{HeadLen: h.Len()})
		b = b[:s.End]
		for _, f := range fs[n:] {
			b = f.append(b)
			s.Head.Add(f.typ, int64(f.dts), len(f.body), Classify(f.typ, f.body).Key)
		}
		copy(b, s.Head.Patch())
		if !bytes.Equal(b, want) {
			t.Fatalf("killed after tag %d, patched after %d: the file differs", n, patched)
		}
	}
}

func FuzzScan(f *testing.F) {
	h, b := part(f, 5*time.Second, frames(3, 10, 5))
	f.Add(b, h.Len())
	f.Add(b[:len(b)-7], int64(0))
	f.Add(slices.Concat(b, make([]byte, 100)), int64(13))
	f.Add(damaged(4), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, head int64) {
		var end int64
		tags := int64(0)
		s, err := Scan(bytes.NewReader(b), int64(len(b)), ScanConfig{HeadLen: head, From: 1, Tag: func(g Tag) error {
			if g.Offset < end || g.Kind != media.Video && g.Kind != media.Audio {
				t.Fatalf("tag at %d after %d", g.Offset, end)
			}
			end = g.Offset + int64(len(g.Body)+TagOverhead)
			tags++
			return nil
		}})
		if err != nil {
			if !errors.Is(err, ErrNotFLV) {
				t.Fatal(err)
			}
			return
		}
		if s.End > int64(len(b)) || s.End < end || s.HeadLen > s.End || tags != s.Video.Frames+s.Audio.Frames {
			t.Fatalf("%d tags up to %d, scanned %+v", tags, end, s)
		}
		if s.Head != nil {
			if s.Head.Len() != s.HeadLen || s.Head.Size() != s.End || int64(len(s.Head.Patch())) != s.HeadLen {
				t.Fatalf("head of %d bytes, size %d, scanned %+v", s.Head.Len(), s.Head.Size(), s)
			}
		} else if s.HeadErr == nil {
			t.Fatal("no head and no reason")
		}
	})
}
