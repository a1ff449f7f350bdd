package probe_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media/probe"
)

// transport is everything that a test may falsify before the bytes of a transport stream are made.
type transport struct {
	film
	noPCR  bool
	noSets bool
	base   int64 // 90 kHz, of the first frame
	crc    byte  // added to the checksum of the PMT
}

func tsCRC(b []byte) []byte {
	crc := ^uint32(0)
	for _, c := range b {
		for i := range 8 {
			top := crc>>31 ^ uint32(c>>(7-i)&1)
			crc <<= 1
			if top&1 != 0 {
				crc ^= 0x04c11db7
			}
		}
	}
	return be32(crc)
}

func (f transport) bytes() []byte {
	var out []byte
	counters := map[int]byte{}
	send := func(pid int, payload []byte, clock int64) {
		for first := true; len(payload) > 0; first = false {
			p := []byte{0x47, byte(pid >> 8), byte(pid), 0x10 | counters[pid]&15}
			counters[pid]++
			if first {
				p[1] |= 0x40
			}
			var field []byte
			if first && clock >= 0 {
				field = []byte{0x10, byte(clock >> 25), byte(clock >> 17), byte(clock >> 9), byte(clock >> 1), byte(clock<<7) | 0x7e, 0}
			}
			room := 184
			if field != nil {
				room -= 1 + len(field)
			}
			n := min(room, len(payload))
			if pad := room - n; pad > 0 || field != nil {
				if field == nil {
					if pad--; pad > 0 {
						field, pad = []byte{0}, pad-1
					} else {
						field = []byte{}
					}
				}
				field = append(field, bytes.Repeat([]byte{0xff}, pad)...)
				p[3] |= 0x20
				p = append(append(p, byte(len(field))), field...)
			}
			out = append(append(out, p...), payload[:n]...)
			payload = payload[n:]
		}
	}
	table := func(pid int, id byte, body []byte, off byte) {
		s := append([]byte{id, 0xb0, byte(9 + len(body)), 0, 1, 0xc1, 0, 0}, body...)
		s = append(s, tsCRC(s)...)
		s[len(s)-1] += off
		send(pid, append([]byte{0}, s...), -1)
	}
	table(0, 0, []byte{0, 1, 0xf0, 0x00}, 0)
	table(0x1000, 2, []byte{0xe1, 0x00, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0, 0x0f, 0xe1, 1, 0xf0, 0}, f.crc)
	stamp := func(mark byte, v int64) []byte {
		v &= 1<<33 - 1
		return []byte{mark<<4 | byte(v>>29)&0xe | 1, byte(v >> 22), byte(v>>14) | 1, byte(v >> 7), byte(v<<1) | 1}
	}
	v, a := f.video, f.audio
	for len(v)+len(a) > 0 {
		if len(a) == 0 || len(v) > 0 && v[0].dts <= a[0].dts {
			s := v[0]
			v = v[1:]
			au := []byte{0, 0, 0, 1, 9, 0xf0}
			if s.key && !f.noSets {
				for c := f.avcc[5:]; len(c) > 0; {
					n := int(c[0] & 31)
					c = c[1:]
					for range n {
						l := int(binary.BigEndian.Uint16(c))
						au = append(append(au, 0, 0, 0, 1), c[2:2+l]...)
						c = c[2+l:]
					}
					if len(c) > 0 && c[0]&0xe0 != 0 {
						break // the extension of higher profiles
					}
				}
			}
			for d := s.data; len(d) >= 4; {
				n := min(int(binary.BigEndian.Uint32(d)), len(d)-4)
				au = append(append(au, 0, 0, 1), d[4:4+n]...)
				d = d[4+n:]
			}
			dts := s.dts*90 + f.base
			head := slices.Concat([]byte{0, 0, 1, 0xe0, 0, 0, 0x80, 0xc0, 10}, stamp(3, dts+s.shift*90), stamp(1, dts))
			clock := dts & (1<<33 - 1)
			if f.noPCR {
				clock = -1
			}
			send(0x100, append(head, au...), clock)
			continue
		}
		s := a[0]
		a = a[1:]
		n := len(s.data) + 7
		adts := append([]byte{0xff, 0xf1, 0x4c, 0x80 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc}, s.data...)
		head := slices.Concat([]byte{0, 0, 1, 0xc0, byte((n + 8) >> 8), byte(n + 8), 0x80, 0x80, 5}, stamp(2, s.dts*90+f.base))
		send(0x101, append(head, adts...), -1)
	}
	return out
}

func TestTransportStream(t *testing.T) {
	film := makeFilm(t)
	film.skip = 0
	// The clock wraps in the middle.
	r := look(t, transport{film: film, base: 1<<33 - 5*90000}.bytes())
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	v, _ := r.Track(probe.Video)
	a, _ := r.Track(probe.Audio)
	if r.Container != "ts" || v.Frames != 300 || v.Keys != 5 || v.Width != 640 || v.Height != 360 || a.Frames != 469 || a.Codec != "aac" {
		t.Errorf("video %+v, audio %+v", v, a)
	}
	if d := v.Last - v.First; d.Round(time.Millisecond) != 9966*time.Millisecond {
		t.Errorf("the video lasts %v", d)
	}
	if got := probe.Ranges(r.Numbers); len(got) != 1 || got[0] != (probe.Range{First: 50, Last: 349}) {
		t.Errorf("numbers %v", got)
	}
	// The content is that of an MP4 with the same order of frames: pictures and sound by time.
	_, _, mp4 := film.states()
	m := look(t, mp4)
	for i := range r.Tracks {
		if r.Tracks[i].Media != m.Tracks[i].Media || r.Tracks[i].Content != m.Tracks[i].Content {
			t.Errorf("the %s of TS and MP4 differs", r.Tracks[i].Kind)
		}
	}
}

func TestEachProblemOfTSIsFound(t *testing.T) {
	for _, test := range []struct {
		name string
		want probe.Code
		make func(transport) []byte
	}{
		{"torn packet", probe.Tail, func(f transport) []byte { b := f.bytes(); return b[:len(b)-1] }},
		{"torn PES packet", probe.Tail, func(f transport) []byte { b := f.bytes(); return b[:len(b)-188] }},
		{"lost packet", probe.Framing, func(f transport) []byte { b := f.bytes(); return slices.Delete(b, 188*100, 188*101) }},
		{"junk", probe.Framing, func(f transport) []byte { return slices.Insert(f.bytes(), 188*100, make([]byte, 50)...) }},
		{"wrong checksum", probe.Framing, func(f transport) []byte { f.crc = 1; return f.bytes() }},
		{"no PCR", probe.Framing, func(f transport) []byte { f.noPCR = true; return f.bytes() }},
		{"no tables", probe.Config, func(f transport) []byte { return f.bytes()[2*188:] }},
		{"no parameter sets", probe.Config, func(f transport) []byte { f.noSets = true; return f.bytes() }},
		{"starts with an inter frame", probe.Start, func(f transport) []byte { f.video = f.video[1:]; return f.bytes() }},
		{"time goes back", probe.Order, func(f transport) []byte { f.video[60].dts = 1900; return f.bytes() }},
		{"hole", probe.Step, func(f transport) []byte {
			for i := range f.video[100:] {
				f.video[100+i].dts += 2000
			}
			return f.bytes()
		}},
		{"audio ends early", probe.Skew, func(f transport) []byte { f.audio = f.audio[:460]; return f.bytes() }},
		{"audio begins late", probe.Skew, func(f transport) []byte { f.audio = f.audio[20:]; return f.bytes() }},
		{"picture twice", probe.Twice, func(f transport) []byte { f.video[9].data = f.video[8].data; return f.bytes() }},
		{"empty picture", probe.Frame, func(f transport) []byte { f.video[9].data = nil; return f.bytes() }},
		{"no ADTS", probe.Frame, func(f transport) []byte {
			b := f.bytes()
			at := bytes.LastIndex(b, []byte{0xff, 0xf1, 0x4c})
			b[at] = 0
			return b
		}},
		{"rate changes", probe.Config, func(f transport) []byte {
			b := f.bytes()
			at := bytes.LastIndex(b, []byte{0xff, 0xf1, 0x4c})
			b[at+2] = 0x50
			return b
		}},
		{"no media", probe.Start, func(f transport) []byte { f.video, f.audio = nil, nil; return f.bytes() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := look(t, test.make(transport{film: makeFilm(t), base: 126000}))
			if !slices.ContainsFunc(r.Problems, func(p probe.Problem) bool { return p.Code == test.want }) {
				t.Errorf("%s not found, but: %v", test.want, r.Problems)
			}
			if r.Check() == nil {
				t.Error("Check is content")
			}
		})
	}
}

func FuzzTS(f *testing.F) {
	f.Add(transport{film: tiny(f), base: 126000}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := probe.Check(bytes.NewReader(b), int64(len(b))); err == nil {
			_, _ = r.Check(), r.Media()
		}
	})
}
