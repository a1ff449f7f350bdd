package mp4_test

import (
	"bytes"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media/mp4"
)

// small is a short recording in its three states.
func small(f testing.TB) (open, between, closed []byte) {
	x := create(f, both())
	x.add(f, live(1, 400*time.Millisecond)...)
	x.flush()
	between, closed = x.close()
	return x.b, between, closed
}

// plain is a head that knows tables which a Writer does not use.
func plain() []byte {
	stbl := box("stbl", box("stsd", 0, 1, box("avc1", make([]byte, 78), box("avcC", avcC))),
		box("stts", 0, 1, 5, 1000), box("ctts", 0, 2, 2, 500, 3, -500), box("stss", 0, 2, 1, 4), box("stsc", 0, 2, 1, 2, 1, 3, 1, 1),
		box("stz2", 0, 4, 5, []byte{0x12, 0x34, 0x50}), box("stco", 0, 3, 8, 20, 30))
	return slices.Concat(box("mdat", "0123456789012345678901234567890"), box("moov", box("mvhd", 0, 0, 0, 1000, 5000),
		box("trak", box("tkhd", 0, 0, 0, 1), box("edts", box("elst", 0, 2, 500, -1, 0x10000, 0, 500, 0x10000)),
			box("mdia", box("mdhd", 0, 0, 0, 1000, 5000, 0), box("hdlr", 0, 0, "vide"), box("minf", stbl)))))
}

// bounded fails when a reader allocates more than is written down for it.
func bounded(t *testing.T, input, most int, read func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	read()
	runtime.ReadMemStats(&after)
	if n := int(after.TotalAlloc - before.TotalAlloc); n > most+64*input {
		t.Errorf("%d bytes are allocated for an input of %d", n, input)
	}
}

func FuzzScan(f *testing.F) {
	for _, b := range [][]byte{nil, []byte("ftyp")} {
		f.Add(b)
	}
	open, between, closed := small(f)
	f.Add(open)
	f.Add(between)
	f.Add(closed)
	f.Add(open[:len(open)-1])
	cfg := both()
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range []mp4.ScanConfig{{}, {Config: &cfg}, {Head: open[:create(t, cfg).w.HeadLen()], Known: mp4.Mark{Written: int64(len(b) / 2), Frames: 3}, From: 1000}} {
			bounded(t, len(b), 3<<20, func() {
				n := int64(0)
				c.Last = time.Second
				c.Sample = func(s mp4.ScannedSample) error {
					if n++; s.Size <= 0 || s.Offset < 0 || s.Offset+int64(s.Size) > int64(len(b)) {
						t.Fatalf("%+v in a file of %d", s, len(b))
					}
					return nil
				}
				sc, err := mp4.Scan(bytes.NewReader(b), int64(len(b)), c)
				if err != nil {
					return
				}
				video, audio := sc.Writer.Frames()
				if sc.End != sc.Writer.Written() || video != sc.Video.Frames || audio != sc.Audio.Frames || n > video+audio {
					t.Fatalf("%+v of %d samples", sc, n)
				}
				// What was found can be closed, and is then read as the same.
				if sc.End > int64(len(b)) || len(b) > 1<<20 {
					return
				}
				content := sc.Writer.Content()
				whole := slices.Clone(b[:sc.End])
				copy(whole, sc.Writer.Head())
				tail, at, patch := sc.Writer.Close()
				whole = append(whole, tail...)
				copy(whole[at:], patch)
				file, err := mp4.Open(bytes.NewReader(whole), int64(len(whole)))
				if err != nil {
					t.Fatalf("what was closed: %v", err)
				}
				if got, v, a, err := file.Content(); err != nil || got != content || v != video || a != audio {
					t.Fatalf("what was closed holds %d and %d, %x (%v); the scan %d and %d, %x", v, a, got, err, video, audio, content)
				}
			})
		}
	})
}

func FuzzInit(f *testing.F) {
	open, _, closed := small(f)
	f.Add(head(f))
	f.Add(open)
	f.Add(closed)
	f.Add(plain())
	entry := func(kind string, e []byte) []byte {
		stbl := box("stbl", box("stsd", 0, 1, e))
		return box("moov", box("trak", box("mdia", box("mdhd", 0, 0, 0, 1000, 0, 0), box("hdlr", 0, 0, kind), box("minf", stbl))))
	}
	f.Add(entry("vide", box("encv", make([]byte, 78), box("sinf", box("frma", "avc1"), box("schm", 0, "cbcs")))))
	esds := box("esds", 0, []byte{3, 25, 0, 0, 0, 4, 17, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2, 0x11, 0x90})
	f.Add(entry("soun", box("mp4a", 0, 1, 0x10000, 0, 0x20010, 0, 48000<<16, 0, 0, 0, 0, box("wave", esds))))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), 1<<20, func() {
			in, err := mp4.ParseInit(b)
			if err != nil {
				return
			}
			for _, tr := range in.Tracks {
				if tr.Timescale == 0 {
					t.Fatal("a track without a clock")
				}
				// What is understood can be written, or is refused.
				cfg := mp4.Config{Video: &tr.Track}
				if tr.Kind != 1 {
					cfg = mp4.Config{Audio: &tr.Track}
				}
				if w, err := mp4.NewWriter(cfg); tr.Refused == nil && err == nil {
					if _, err := mp4.ParseInit(w.Head()); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	})
}

func FuzzFragment(f *testing.F) {
	open, _, _ := small(f)
	h := head(f)
	f.Add(open[len(h):])
	f.Add(slices.Concat(box("styp"), box("moof", box("traf", box("tfhd", 0x2003B, 1, 1, 2, 3, 4, 5), box("tfdt", 0x01000000, uint64(7)), box("trun", 0x01000F01, 1, 0, 1, 2, 3, 4))), box("mdat", "abcdefg")))
	f.Add(box("moof", box("traf", box("tfhd", 0, 2), box("trun", 0, 1), box("trun", 5, 1, 0, 0))))
	in, err := mp4.ParseInit(h)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), 1<<20, func() {
			d := mp4.NewDemuxer(in)
			for a, err := range d.Samples(b) {
				if err == nil && (len(a.Data) == 0 || len(a.Data) > len(b)) {
					t.Fatalf("a sample of %d bytes", len(a.Data))
				}
			}
		})
	})
}

func FuzzPlain(f *testing.F) {
	open, between, closed := small(f)
	f.Add(open)
	f.Add(between)
	f.Add(closed)
	f.Add(plain())
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), 3<<20, func() {
			file, err := mp4.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				return
			}
			n := 0
			var buf []byte
			for s, err := range file.Samples() {
				if err != nil {
					break
				}
				if buf, err = file.Data(s, buf); err != nil || len(buf) == 0 {
					t.Fatalf("%+v: %v", s, err)
				}
				if n++; n > 10_000 {
					break
				}
			}
		})
	})
}
