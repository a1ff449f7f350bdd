package probe_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media/probe"
)

// frame is one sample of the test material, times in ms.
type frame struct {
	dts, shift int64
	key        bool
	data       []byte
}

// film is everything that a test may falsify before the bytes of a hybrid MP4 are made.
type film struct {
	video, audio []frame // as the fragments have them
	tables       func(video, audio []frame) ([]frame, []frame)
	avcc, asc    []byte
	tag          string
	skip         int64 // of the video's edit list, in ms; of both moovs
	finalSkip    int64 // what the final one says more
	moves        int64 // added to where the last chunk of the tables begins
	width        uint16
	duration     uint32 // added to that of the movie
	short        int    // taken from the size of the last sample in its fragment
	spare        int    // bytes in each mdat that belong to nothing
}

func makeFilm(t testing.TB) film {
	f := film{tag: "avc1", width: 640, skip: 66}
	for _, x := range material(t) {
		switch {
		case x.typ == 9 && x.body[1] == 0:
			f.avcc = x.body[5:]
		case x.typ == 8 && x.body[1] == 0:
			f.asc = x.body[2:]
		case x.typ == 9:
			f.video = append(f.video, frame{x.ts, 66, x.key(), x.body[5:]})
		default:
			f.audio = append(f.audio, frame{x.ts, 0, true, x.body[2:]})
		}
	}
	return f
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func be32(v ...uint32) (out []byte) {
	for _, x := range v {
		out = binary.BigEndian.AppendUint32(out, x)
	}
	return out
}
func atom(kind string, parts ...[]byte) []byte {
	b := slices.Concat(parts...)
	return slices.Concat(be32(uint32(8+len(b))), []byte(kind), b)
}

// chunk is where the samples of one track in one fragment are.
type chunk struct {
	at int64
	n  int
}

func (f film) moov(final bool, video, audio []frame, chunks [2][]chunk, skip int64) []byte {
	length := uint32(0)
	trak := func(id uint32, handler string, entry []byte, list []frame, where []chunk, skip int64) []byte {
		var stts, ctts, stss, stsz, stsc, co64 []byte
		last := uint32(0)
		for i, s := range list {
			step := uint32(33)
			if handler == "soun" {
				step = 21
			}
			if i+1 < len(list) {
				step = uint32(list[i+1].dts - s.dts)
			}
			last = uint32(s.dts) + step
			stts = append(stts, be32(1, step)...)
			ctts = append(ctts, be32(1, uint32(int32(s.shift)))...)
			stsz = append(stsz, be32(uint32(len(s.data)))...)
			if s.key {
				stss = append(stss, be32(uint32(i+1))...)
			}
		}
		length = max(length, last)
		for i, c := range where {
			stsc = append(stsc, be32(uint32(i+1), uint32(c.n), 1)...)
			co64 = binary.BigEndian.AppendUint64(co64, uint64(c.at))
		}
		n := uint32(len(list))
		var tables []byte
		if final {
			tables = slices.Concat(atom("stts", be32(0, n), stts), atom("ctts", be32(1<<24, n), ctts), atom("stsz", be32(0, 0, n), stsz),
				atom("stsc", be32(0, uint32(len(where))), stsc), atom("co64", be32(0, uint32(len(where))), co64))
			if handler == "vide" {
				tables = append(tables, atom("stss", be32(0, uint32(len(stss)/4)), stss)...)
			}
		} else {
			last = 0
			tables = slices.Concat(atom("stts", be32(0, 0)), atom("stsz", be32(0, 0, 0)), atom("stsc", be32(0, 0)), atom("stco", be32(0, 0)))
		}
		return atom("trak", atom("tkhd", be32(3, 0, 0, id), make([]byte, 68)),
			atom("edts", atom("elst", be32(0, 1, last, uint32(skip), 1<<16))),
			atom("mdia", atom("mdhd", be32(0, 0, 0, 1000, last, 0)), atom("hdlr", be32(0, 0), []byte(handler), make([]byte, 13)),
				atom("minf", atom("stbl", atom("stsd", be32(0, 1), entry), tables))))
	}
	var avcc, esds []byte
	if f.avcc != nil {
		avcc = atom("avcC", f.avcc)
	}
	if f.asc != nil {
		config := append([]byte{5, byte(len(f.asc))}, f.asc...)
		decoder := append([]byte{4, byte(13 + len(config)), 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, config...)
		esds = atom("esds", be32(0), []byte{3, byte(3 + len(decoder)), 0, 0, 0}, decoder)
	}
	v := trak(1, "vide", atom(f.tag, make([]byte, 24), be16(f.width), be16(360), make([]byte, 50), avcc), video, chunks[0], skip)
	a := trak(2, "soun", atom("mp4a", make([]byte, 16), be16(2), be16(16), be32(0, 48000<<16), esds), audio, chunks[1], 0)
	if final {
		return atom("moov", atom("mvhd", be32(0, 0, 0, 1000, length+f.duration), make([]byte, 80)), v, a)
	}
	return atom("moov", atom("mvhd", be32(0, 0, 0, 1000, 0), make([]byte, 80)), v, a,
		atom("mvex", atom("trex", be32(0, 1, 1, 0, 0, 0)), atom("trex", be32(0, 2, 1, 0, 0, 0))))
}

// states makes the file as it is while it grows, between the two steps of closing it, and closed.
func (f film) states() (open, between, closed []byte) {
	ftyp := atom("ftyp", []byte("isom"), be32(0))
	out := slices.Concat(ftyp, atom("free", make([]byte, 8)), f.moov(false, nil, nil, [2][]chunk{}, f.skip))
	var chunks [2][]chunk
	v, a := f.video, f.audio
	for seq := uint32(1); len(v)+len(a) > 0; seq++ {
		nv := 0
		for nv < len(v) && (nv == 0 || !v[nv].key) {
			nv++
		}
		na := len(a)
		if nv < len(v) {
			na = 0
			for na < len(a) && a[na].dts < v[nv].dts {
				na++
			}
		}
		end := len(v) == nv
		make1 := func(offset [2]int) []byte {
			var trafs [][]byte
			for k, list := range [][]frame{v[:nv], a[:na]} {
				if len(list) == 0 {
					continue
				}
				var run []byte
				for i, s := range list {
					lasts := int64(33)
					if k == 1 {
						lasts = 21
					}
					if i+1 < len(list) {
						lasts = list[i+1].dts - s.dts
					}
					size, flags := len(s.data), uint32(0x10000)
					if s.key {
						flags = 0
					}
					if end && i == len(list)-1 && k == 1 {
						size -= f.short
					}
					run = append(run, be32(uint32(lasts), uint32(size), flags, uint32(int32(s.shift)))...)
				}
				trafs = append(trafs, atom("traf", atom("tfhd", be32(0x20000, uint32(k+1))), atom("tfdt", be32(1<<24, 0, uint32(list[0].dts))),
					atom("trun", be32(1<<24|0xf01, uint32(len(list)), uint32(offset[k])), run)))
			}
			return atom("moof", atom("mfhd", be32(0, seq)), slices.Concat(trafs...))
		}
		var data, sound []byte
		for _, s := range v[:nv] {
			data = append(data, s.data...)
		}
		for _, s := range a[:na] {
			sound = append(sound, s.data...)
		}
		head := len(make1([2]int{})) + 8
		moof := make1([2]int{head, head + len(data)})
		at := int64(len(out) + head)
		chunks[0], chunks[1] = append(chunks[0], chunk{at, nv}), append(chunks[1], chunk{at + int64(len(data)), na})
		out = slices.Concat(out, moof, atom("mdat", data, sound, make([]byte, f.spare)))
		v, a = v[nv:], a[na:]
	}
	fv, fa := f.video, f.audio
	if f.tables != nil {
		fv, fa = f.tables(slices.Clone(fv), slices.Clone(fa))
	}
	if n := len(chunks[0]); n > 0 {
		chunks[0][n-1].at += f.moves
	}
	between = slices.Concat(out, f.moov(true, fv, fa, chunks, f.skip+f.finalSkip))
	closed = bytes.Clone(between)
	copy(closed[len(ftyp):], slices.Concat(be32(1), []byte("mdat"), binary.BigEndian.AppendUint64(nil, uint64(len(out)-len(ftyp)))))
	return out, between, closed
}

// One film in its three states is the same film, and no state has a fault.
func TestHybridMP4(t *testing.T) {
	f := makeFilm(t)
	open, between, closed := f.states()
	var first probe.Report
	for i, b := range [][]byte{open, between, closed} {
		want := []string{"fragmented", "between", "hybrid"}[i]
		r := look(t, b)
		if err := r.Check(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if r.Layout != want || r.Container != "mp4" {
			t.Errorf("%s: taken for %s", want, r.Layout)
		}
		v, _ := r.Track(probe.Video)
		a, _ := r.Track(probe.Audio)
		if v.Frames != 300 || v.Keys != 5 || v.Codec != "avc" || v.Width != 640 || v.Height != 360 || v.First != 0 || v.Last != 9966*time.Millisecond {
			t.Errorf("%s: video %+v", want, v)
		}
		if v.Begin != 0 || v.Until != v.End || a.Frames != 469 || a.Codec != "aac" || a.Begin != 0 {
			t.Errorf("%s: shown from %v to %v; audio %+v", want, v.Begin, v.Until, a)
		}
		if got := probe.Ranges(r.Numbers); len(got) != 1 || got[0] != (probe.Range{First: 50, Last: 349}) {
			t.Errorf("%s: numbers %v", want, got)
		}
		if i == 0 {
			first = r
		}
		if r.Content != first.Content || r.Content == 0 || v.Content != first.Tracks[0].Content {
			t.Errorf("%s: content %x, %x before", want, r.Content, first.Content)
		}
	}
	// The same media in FLV.
	r := look(t, file{tags: material(t), width: 640}.bytes())
	for i := range r.Tracks {
		if r.Tracks[i].Media != first.Tracks[i].Media {
			t.Errorf("the %s of MP4 and FLV differs", r.Tracks[i].Kind)
		}
	}
}

func TestEachProblemOfMP4IsFound(t *testing.T) {
	closed := func(f film) []byte { _, _, b := f.states(); return b }
	open := func(f film) []byte { b, _, _ := f.states(); return b }
	tables := func(edit func(v, a []frame)) func(film) []byte {
		return func(f film) []byte {
			f.tables = func(v, a []frame) ([]frame, []frame) { edit(v, a); return v, a }
			return closed(f)
		}
	}
	for _, test := range []struct {
		name string
		want probe.Code
		make func(film) []byte
	}{
		{"torn mdat", probe.Tail, func(f film) []byte { b := open(f); return b[:len(b)-1] }},
		{"torn moof", probe.Tail, func(f film) []byte { b := open(f); return b[:bytes.LastIndex(b, []byte("moof"))+40] }},
		{"torn box header", probe.Tail, func(f film) []byte { return append(open(f), 0, 0, 0) }},
		{"junk", probe.Framing, func(f film) []byte { return append(open(f), "junkjunkjunkjunk"...) }},
		{"no ftyp", probe.Framing, func(f film) []byte { return open(f)[16:] }},
		{"no moov", probe.Config, func(f film) []byte {
			b := open(f)
			copy(b[bytes.Index(b, []byte("moov")):], "free")
			return b
		}},
		{"torn table", probe.Framing, func(f film) []byte {
			b := closed(f)
			copy(b[bytes.LastIndex(b, []byte("stsz"))+8:], be32(0, 470))
			return b
		}},
		{"no configuration", probe.Config, func(f film) []byte { f.avcc = nil; return closed(f) }},
		{"no audio configuration", probe.Config, func(f film) []byte { f.asc = nil; return closed(f) }},
		{"broken configuration", probe.Config, func(f film) []byte { f.avcc = f.avcc[:9]; return closed(f) }},
		{"broken audio configuration", probe.Config, func(f film) []byte { f.asc = []byte{0}; return closed(f) }},
		{"hev1", probe.Config, func(f film) []byte { f.tag = "hev1"; return closed(f) }},
		{"starts with an inter frame", probe.Start, func(f film) []byte { f.video = f.video[1:]; return closed(f) }},
		{"first frame is not marked", probe.Start, func(f film) []byte { f.video[0].key = false; return open(f) }},
		{"key frame is not marked", probe.Index, func(f film) []byte { f.video[60].key = false; return open(f) }},
		{"marked without IDR", probe.Frame, func(f film) []byte { f.video[61].key = true; return open(f) }},
		{"no media", probe.Start, func(f film) []byte { f.video, f.audio = nil, nil; return open(film{tag: "avc1"}) }},
		{"time goes back", probe.Order, func(f film) []byte { f.video[60].dts = 1900; f.video[61].dts = 1890; return open(f) }},
		{"hole", probe.Step, func(f film) []byte {
			for i := range f.video[100:] {
				f.video[100+i].dts += 2000
			}
			return closed(f)
		}},
		{"audio ends early", probe.Skew, func(f film) []byte { f.audio = f.audio[:460]; return closed(f) }},
		{"audio begins late", probe.Skew, func(f film) []byte { f.audio = f.audio[20:]; return open(f) }},
		{"picture twice", probe.Twice, func(f film) []byte { f.video[9].data = f.video[8].data; return closed(f) }},
		{"torn access unit", probe.Frame, func(f film) []byte { d := f.video[9].data; f.video[9].data = d[:len(d)-1]; return closed(f) }},
		{"empty audio", probe.Frame, func(f film) []byte { f.audio[9].data = nil; return closed(f) }},
		{"fragment tells of less than is there", probe.Frame, func(f film) []byte { f.short = 1; return open(f) }},
		{"bytes that belong to nothing", probe.Frame, func(f film) []byte { f.spare = 7; return open(f) }},
		{"sample outside", probe.Frame, func(f film) []byte { f.moves = 1 << 30; return closed(f) }},
		{"width", probe.Metadata, func(f film) []byte { f.width = 1280; return closed(f) }},
		{"duration", probe.Metadata, func(f film) []byte { f.duration = 200; return closed(f) }},
		{"tables point elsewhere", probe.Agree, func(f film) []byte { f.moves = 4; return closed(f) }},
		{"tables show later", probe.Agree, func(f film) []byte { f.finalSkip = -66; return closed(f) }},
		{"tables with other order", probe.Agree, tables(func(v, a []frame) { v[9].shift = 0 })},
		{"tables with other times", probe.Agree, tables(func(v, a []frame) { v[9].dts += 3 })},
		{"tables without a key frame", probe.Agree, tables(func(v, a []frame) { v[60].key = false })},
		{"tables with fewer frames", probe.Agree, func(f film) []byte {
			_, b, _ := f.states()
			f.video = f.video[:299]
			_, short, _ := f.states()
			return append(b[:bytes.LastIndex(b, []byte("moov"))-4], short[bytes.LastIndex(short, []byte("moov"))-4:]...)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := look(t, test.make(makeFilm(t)))
			if !slices.ContainsFunc(r.Problems, func(p probe.Problem) bool { return p.Code == test.want }) {
				t.Errorf("%s not found, but: %v", test.want, r.Problems)
			}
			if r.Check() == nil {
				t.Error("Check is content")
			}
		})
	}
}

// Numbers that a file claims cost nothing before they are compared with what is there.
func TestHostileMP4CostsLittle(t *testing.T) {
	f := makeFilm(t)
	open, _, closed := f.states()
	huge := bytes.Clone(closed)
	copy(huge[bytes.LastIndex(huge, []byte("stsz"))+8:], be32(1, 1<<31)) // constant size
	run := bytes.Clone(open)
	at := bytes.Index(run, []byte("trun"))
	copy(run[at+4:], be32(1, 1<<31)) // no rows
	for _, b := range [][]byte{huge, run} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = probe.Check(bytes.NewReader(b), int64(len(b)))
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		if allocated > 64<<20 {
			t.Errorf("%d bytes were allocated", allocated)
		}
		if look(t, b).Check() == nil {
			t.Error("no problem")
		}
	}
}

// tiny is a film of few bytes, for fuzzing.
func tiny(t testing.TB) film {
	m := makeFilm(t)
	m.video, m.audio = m.video[:3], m.audio[:3]
	for i := range m.video {
		nal := byte(0x41)
		if m.video[i].key {
			nal = 0x65
		}
		m.video[i].data = []byte{0, 0, 0, 4, nal, 0x88, byte(i), 3}
	}
	for i := range m.audio {
		m.audio[i].data = []byte{0x21, byte(i)}
	}
	return m
}

func FuzzMP4(f *testing.F) {
	m := tiny(f)
	open, between, closed := m.states()
	f.Add(open)
	f.Add(between)
	f.Add(closed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := probe.Check(bytes.NewReader(b), int64(len(b))); err == nil {
			_, _ = r.Check(), r.Media()
		}
	})
}
