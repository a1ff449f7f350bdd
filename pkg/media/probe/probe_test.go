package probe_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// tag is one FLV tag of the test material.
type tag struct {
	typ  byte
	ts   int64
	body []byte
}

func (t tag) key() bool { return t.typ == 9 && t.body[0] == 0x17 && t.body[1] == 1 }

// material is 10 s of the live room without its metadata: two headers, then media.
func material(t testing.TB) []tag {
	t.Helper()
	var b bytes.Buffer
	if _, err := liveroom.Write(&b, liveroom.Config{First: 50}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	var out []tag
	for b := b.Bytes()[13:]; len(b) > 0; {
		n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		ts := int64(b[7])<<24 | int64(b[4])<<16 | int64(b[5])<<8 | int64(b[6])
		if b[0] != 18 {
			out = append(out, tag{b[0], ts, bytes.Clone(b[11 : 11+n])})
		}
		b = b[15+n:]
	}
	return out
}

// file is everything that a test may falsify before the bytes are made.
type file struct {
	tags       []tag
	noIndex    bool
	noScript   bool
	shiftIndex int64   // added to the position of the last entry
	duration   float64 // 0: the right one
	size       int     // 0: the right one
	width      float64
}

func (f file) bytes() []byte {
	number := func(b []byte, v float64) []byte {
		return binary.BigEndian.AppendUint64(append(b, 0), math.Float64bits(v))
	}
	name := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	var keys []tag
	last := 0.0
	for _, t := range f.tags {
		if t.key() {
			keys = append(keys, t)
		}
		if t.typ == 9 && t.body[1] == 1 {
			last = float64(t.ts)
		}
	}
	script := func(size int, offsets []int64) []byte {
		b := name([]byte{2}, "onMetaData")
		b = append(b, 8, 0, 0, 0, 4)
		d := f.duration
		if d == 0 {
			d = (last + 33) / 1000
		}
		b = number(name(b, "duration"), d)
		b = number(name(b, "filesize"), float64(size))
		b = number(name(b, "width"), f.width)
		b = number(name(b, "videocodecid"), 7)
		if !f.noIndex {
			b = append(name(b, "keyframes"), 3)
			b = binary.BigEndian.AppendUint32(append(name(b, "times"), 10), uint32(len(keys)))
			for _, k := range keys {
				b = number(b, float64(k.ts)/1000)
			}
			b = binary.BigEndian.AppendUint32(append(name(b, "filepositions"), 10), uint32(len(keys)))
			for i := range keys {
				b = number(b, float64(offsets[i]))
			}
			b = append(b, 0, 0, 9)
		}
		return append(b, 0, 0, 9)
	}
	render := func(script []byte) (out []byte, offsets []int64) {
		out = append(out, 'F', 'L', 'V', 1, 5, 0, 0, 0, 9, 0, 0, 0, 0)
		all := f.tags
		if !f.noScript {
			all = append([]tag{{18, 0, script}}, f.tags...)
		}
		for _, t := range all {
			if t.key() {
				offsets = append(offsets, int64(len(out)))
			}
			n, ts := len(t.body), uint32(t.ts)
			out = append(out, t.typ, byte(n>>16), byte(n>>8), byte(n), byte(ts>>16), byte(ts>>8), byte(ts), byte(ts>>24), 0, 0, 0)
			out = append(out, t.body...)
			out = binary.BigEndian.AppendUint32(out, uint32(11+n))
		}
		return out, offsets
	}
	out, offsets := render(script(0, make([]int64, len(keys))))
	size := f.size
	if size == 0 {
		size = len(out)
	}
	if len(offsets) > 0 {
		offsets[len(offsets)-1] += f.shiftIndex
	}
	out, _ = render(script(size, offsets))
	return out
}

func look(t *testing.T, b []byte) probe.Report {
	t.Helper()
	r, err := probe.Reader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSoundFile(t *testing.T) {
	r := look(t, file{tags: material(t), width: 640}.bytes())
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	v, _ := r.Track(probe.Video)
	a, _ := r.Track(probe.Audio)
	if v.Frames != 300 || v.Keys != 5 || v.Codec != "avc" || v.Width != 640 || v.Height != 360 || v.First != 0 || v.Last != 9966*time.Millisecond {
		t.Errorf("video %+v", v)
	}
	if a.Frames != 469 || a.Codec != "aac" || a.Last != 9984*time.Millisecond {
		t.Errorf("audio %+v", a)
	}
	if got := probe.Ranges(r.Numbers); len(got) != 1 || got[0] != (probe.Range{First: 50, Last: 349}) {
		t.Errorf("numbers %v", got)
	}
	if len(r.At) != 300 || r.At[299] != v.Last || r.At[60] != 2*time.Second {
		t.Errorf("times of the numbers: %v", r.At)
	}
	if len(r.Index) != 5 || r.Index[2].At != 4*time.Second || r.Media() != 9999*time.Millisecond || len(r.Digests) != 300 {
		t.Errorf("index %v, media %v", r.Index, r.Media())
	}
	if r.Tags != 1+2+300+469 || r.Container != "flv" {
		t.Errorf("%d tags", r.Tags)
	}
}

func TestEachProblemIsFound(t *testing.T) {
	edit := func(f func(tags []tag) []tag) func(file) []byte {
		return func(x file) []byte { x.tags = f(x.tags); return x.bytes() }
	}
	at := func(tags []tag, i int) int { // the ith picture
		for k, tag := range tags {
			if tag.typ == 9 && tag.body[1] == 1 {
				if i == 0 {
					return k
				}
				i--
			}
		}
		panic("no such picture")
	}
	tests := []struct {
		name string
		want probe.Code
		make func(file) []byte
	}{
		{"torn tail", probe.Tail, func(f file) []byte { b := f.bytes(); return b[:len(b)-1] }},
		{"torn header", probe.Tail, func(f file) []byte { return append(f.bytes(), 9, 0, 0) }},
		{"junk", probe.Framing, func(f file) []byte { return append(f.bytes(), "junkjunkjunkjunk"...) }},
		{"wrong trailer", probe.Framing, func(f file) []byte { b := f.bytes(); b[len(b)-1]++; return b }},
		{"script twice", probe.Metadata, edit(func(x []tag) []tag { return append(x, tag{18, 9990, []byte{2, 0, 1, 'x', 5}}) })},
		{"no script", probe.Metadata, func(f file) []byte { f.noScript = true; return f.bytes() }},
		{"wrong duration", probe.Metadata, func(f file) []byte { f.duration = 10.2; return f.bytes() }},
		{"wrong size", probe.Metadata, func(f file) []byte { f.size = 1; return f.bytes() }},
		{"wrong width", probe.Metadata, func(f file) []byte { f.width = 1280; return f.bytes() }},
		{"no index", probe.Index, func(f file) []byte { f.noIndex = true; return f.bytes() }},
		{"index beside a key frame", probe.Index, func(f file) []byte { f.shiftIndex = 11; return f.bytes() }},
		{"header again", probe.Config, edit(func(x []tag) []tag { return slices.Insert(x, 100, tag{9, x[100].ts, x[0].body}) })},
		{"header changes", probe.Config, edit(func(x []tag) []tag {
			b := bytes.Clone(x[1].body)
			b[2] ^= 8
			return slices.Insert(x, 100, tag{8, x[100].ts, b})
		})},
		{"no video header", probe.Config, edit(func(x []tag) []tag { return x[1:] })},
		{"no audio header", probe.Config, edit(func(x []tag) []tag { return slices.Delete(x, 1, 2) })},
		{"starts with an inter frame", probe.Start, edit(func(x []tag) []tag { i := at(x, 0); return slices.Delete(x, i, i+1) })},
		{"key frame without IDR", probe.Frame, edit(func(x []tag) []tag { x[at(x, 7)].body[0] = 0x17; return x })},
		{"no media", probe.Start, edit(func(x []tag) []tag { return nil })},
		{"time stands still", probe.Order, edit(func(x []tag) []tag { x[at(x, 8)].ts = x[at(x, 7)].ts; return x })},
		{"time goes back", probe.Order, edit(func(x []tag) []tag { x[at(x, 8)].ts = 1; return x })},
		{"hole", probe.Step, edit(func(x []tag) []tag {
			for i := range x[at(x, 100):] {
				x[at(x, 100)+i].ts += 2000
			}
			return x
		})},
		{"audio ends early", probe.Skew, edit(func(x []tag) []tag {
			for i := 0; i < 10; {
				for k, t := range slices.Backward(x) {
					if t.typ == 8 {
						x = slices.Delete(x, k, k+1)
						break
					}
				}
				i++
			}
			return x
		})},
		{"picture twice", probe.Twice, edit(func(x []tag) []tag { x[at(x, 9)].body = x[at(x, 8)].body; return x })},
		{"torn access unit", probe.Frame, edit(func(x []tag) []tag { t := &x[at(x, 9)]; t.body = t.body[:len(t.body)-1]; return x })},
		{"empty audio", probe.Frame, edit(func(x []tag) []tag {
			x[len(x)-1].body = x[len(x)-1].body[:1]
			return x
		})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := look(t, test.make(file{tags: material(t), width: 640}))
			if !slices.ContainsFunc(r.Problems, func(p probe.Problem) bool { return p.Code == test.want }) {
				t.Errorf("not found, but: %v", r.Problems)
			}
			if r.Check() == nil {
				t.Error("Check is content")
			}
		})
	}
}

// The room's own stream has no index; everything else about it is sound. So is what ffmpeg writes with an index.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "live.flv")
	f, err := os.Create(live)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := liveroom.Write(f, liveroom.Config{Bitrate: 1_000_000}, 9*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := probe.File(live)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(probe.Metadata, probe.Index); err != nil {
		t.Error(err)
	}
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip("no ffmpeg")
	}
	indexed := filepath.Join(dir, "indexed.flv")
	out, err := exec.CommandContext(t.Context(), ffmpeg, "-v", "error", "-i", live, "-c", "copy", "-flvflags", "add_keyframe_index", indexed).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r, err = probe.File(indexed); err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		if !strings.Contains(p.Text, "lastkeyframelocation") { // ffmpeg counts it before it makes room for the index
			t.Error(p)
		}
	}
	if len(r.Numbers) != 270 || len(r.Index) < 5 {
		t.Errorf("%d numbers, index %v", len(r.Numbers), r.Index)
	}
}

func TestNoRecording(t *testing.T) {
	for _, b := range []string{"", "FLV", "<html>", "FLV\x02\x05\x00\x00\x00\x09\x00\x00\x00\x00"} {
		if _, err := probe.Reader(bytes.NewReader([]byte(b)), int64(len(b))); err == nil {
			t.Errorf("%q was taken for a recording", b)
		}
	}
	if _, err := probe.File(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("no error for a file that is not there")
	}
}

func FuzzReader(f *testing.F) {
	m := material(f)
	f.Add(file{tags: m[:40], width: 640}.bytes())
	f.Add([]byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00\x12\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x02\x00\x0aonMetaData\x0a\x7f\xff\xff\xff\x0a\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := probe.Reader(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			_ = r.Check()
			_ = r.Media()
		}
	})
}
