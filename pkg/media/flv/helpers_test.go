package flv

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/liverec/liverec/pkg/media"
)

// Sequence headers of a real stream: x264, 320×180, 25/s, High; AAC-LC 44.1 kHz stereo.
var (
	videoConfig = unhex("17000000000164000cffe1001a6764000cacd941419f9f011000000300100000030320f142996001000468ef8fcbfdf8f800")
	audioConfig = unhex("af00121056e500")
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// videoBody is a frame of one NAL unit with size bytes of noise in it.
func videoBody(r *rand.Rand, key bool, cts int32, size int) []byte {
	b := []byte{0x27, 1, byte(cts >> 16), byte(cts >> 8), byte(cts)}
	nal := byte(0x41)
	if key {
		b[0], nal = 0x17, 0x65
	}
	b = binary.BigEndian.AppendUint32(b, uint32(size+1))
	b = append(b, nal)
	for range size {
		b = append(b, byte(r.Uint32()))
	}
	return b
}

func audioBody(r *rand.Rand, size int) []byte {
	b := []byte{0xAF, 1}
	for range size {
		b = append(b, byte(r.Uint32()))
	}
	return b
}

// frame is a tag before it is written.
type frame struct {
	typ  byte
	dts  uint32
	body []byte
}

func (f frame) append(dst []byte) []byte { return AppendTag(dst, f.typ, f.dts, f.body) }

// frames makes n video frames at 25/s with a key every gop, and the sound to it.
func frames(seed uint64, n, gop int) []frame {
	r := rand.New(rand.NewPCG(seed, 1))
	var out []frame
	sound := 0.0
	for i := range n {
		key, size := i%gop == 0, 200+r.IntN(300)
		if key {
			size *= 4
		}
		out = append(out, frame{TagVideo, uint32(i * 40), videoBody(r, key, int32(r.IntN(3))*40, size)})
		for ; sound < float64(i+1)*40; sound += 1024.0 / 44.1 {
			out = append(out, frame{TagAudio, uint32(sound), audioBody(r, 40+r.IntN(80))})
		}
	}
	return out
}

func heads() []frame {
	return []frame{{TagScript, 0, scriptBody(25)}, {TagVideo, 0, videoConfig}, {TagAudio, 0, audioConfig}}
}

func scriptBody(fps float64) []byte {
	b := appendString(nil, onMetaData)
	b = append(b, byte(ECMAArray), 0, 0, 0, 3)
	b = appendNumber(appendName(b, "framerate"), fps)
	b = appendString(appendName(b, "encoder"), "obs")
	b = appendNumber(appendName(b, "width"), 1)
	return append(b, 0, 0, amfEnd)
}

// stream writes a file header and tags.
func stream(fs ...frame) []byte {
	b := AppendFileHeader(nil, true, true)
	for _, f := range fs {
		b = f.append(b)
	}
	return b
}

// result is everything that came out of a Demuxer.
type result struct {
	Packets []media.Packet
	Count   media.Count
	Events  []Event
	Err     error // nil for io.EOF
	Stats   Stats
}

func add(a *media.Count, b media.Count) {
	a.Received += b.Received
	a.Header += b.Header
	a.Tags += b.Tags
	a.Junk += b.Junk
	a.Partial += b.Partial
}

// demux reads r to its end and checks what must hold for every batch.
func demux(t testing.TB, r io.Reader) result {
	t.Helper()
	before := media.InUse()
	var res result
	d := NewDemuxer(DemuxerConfig{Events: func(e Event) {
		e.Head = slices.Clone(e.Head)
		res.Events = append(res.Events, e)
	}})
	take := func(b *media.Batch) {
		c := b.Count
		if c.Received != c.Header+c.Tags+c.Junk+c.Partial {
			t.Fatalf("a batch does not balance: %+v", c)
		}
		tags := int64(0)
		for _, p := range b.Packets {
			if p.Kind != media.Restart {
				tags += int64(TagOverhead + len(p.Body))
			}
			p.Body = bytes.Clone(p.Body)
			res.Packets = append(res.Packets, p)
		}
		if tags != c.Tags && (tags > c.Tags || !enhancedIn(b)) {
			t.Fatalf("a batch counts %d bytes of tags and holds %d", c.Tags, tags)
		}
		add(&res.Count, c)
		b.Release()
	}
	for {
		b, err := d.Fill(r)
		if (b == nil) == (err == nil) {
			t.Fatalf("Fill gave a batch %v and the error %v", b != nil, err)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				res.Err = err
			}
			break
		}
		if len(b.Packets) == 0 {
			t.Fatal("Fill gave an empty batch")
		}
		if b.At.IsZero() {
			t.Fatal("a batch without a time")
		}
		take(b)
	}
	if b := d.Close(); b != nil {
		take(b)
	}
	if d.Close() != nil {
		t.Fatal("the second Close gave a batch")
	}
	if d.Pending() != 0 {
		t.Fatalf("%d bytes are still open", d.Pending())
	}
	if now := media.InUse(); now != before {
		t.Fatalf("%d bytes of slabs were not given back", now-before)
	}
	res.Stats = d.Stats()
	return res
}

// differ says in what two results differ, "" if in nothing. Bodies are compared as a whole: cmp is slow on them.
// enhancedIn reports whether there is a packet whose body may be cut: of several tracks one is left, and of very long
// ModEx data nothing.
func enhancedIn(b *media.Batch) bool {
	return slices.ContainsFunc(b.Packets, func(p media.Packet) bool {
		return len(p.Body) > 0 && (p.Body[0]&0x80 != 0 || p.Lead == 0 && p.Kind != media.Script && p.Kind != media.Invalid)
	})
}

func differ(a, b result) string {
	var ce, de *ContentError
	if errors.As(a.Err, &ce) && errors.As(b.Err, &de) && ce.Content == de.Content {
		a.Err, b.Err = nil, nil
	}
	if !errors.Is(a.Err, b.Err) {
		return fmt.Sprintf("errors %v and %v", a.Err, b.Err)
	}
	if len(a.Packets) != len(b.Packets) {
		return fmt.Sprintf("%d and %d packets", len(a.Packets), len(b.Packets))
	}
	for i, p := range a.Packets {
		q := b.Packets[i]
		if !bytes.Equal(p.Body, q.Body) {
			return fmt.Sprintf("packet %d has another body", i)
		}
		if p.Kind != q.Kind || p.Codec != q.Codec || p.Key != q.Key || p.DTS != q.DTS || p.CTS != q.CTS || p.Sum != q.Sum {
			return fmt.Sprintf("packet %d: %+v and %+v", i, p, q)
		}
	}
	a.Packets, b.Packets, a.Err, b.Err = nil, nil, nil, nil
	return cmp.Diff(a, b, cmpopts.EquateEmpty())
}

func (res result) media() []media.Packet {
	var out []media.Packet
	for _, p := range res.Packets {
		if p.Kind == media.Video || p.Kind == media.Audio {
			out = append(out, p)
		}
	}
	return out
}

// same fails unless the packets are those of the frames.
func same(t testing.TB, got []media.Packet, want []frame) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d packets, want %d", len(got), len(want))
	}
	for i, p := range got {
		w := want[i]
		if !bytes.Equal(p.Body, w.body) || p.DTS != int64(int32(w.dts)) || p.Sum != Sum(w.typ, w.body) {
			t.Fatalf("packet %d is not as it was sent: DTS %d, want %d, %d bytes, want %d", i, p.DTS, int32(w.dts), len(p.Body), len(w.body))
		}
	}
}

// pieces reads b in pieces of the given size.
type pieces struct {
	b    []byte
	size func() int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), max(p.size(), 1))], p.b)
	p.b = p.b[n:]
	return n, nil
}

// readers cut the same bytes in different ways.
func readers(b []byte, seed uint64) map[string]io.Reader {
	r := rand.New(rand.NewPCG(seed, 2))
	one := 1
	if len(b) > 1<<20 {
		one = 333
	} else if raceDetector && len(b) > 1<<14 {
		one = 7
	}
	return map[string]io.Reader{
		"one byte":   &pieces{b, func() int { return one }},
		"half":       iotest.HalfReader(bytes.NewReader(b)),
		"data + EOF": iotest.DataErrReader(bytes.NewReader(b)),
		"TCP":        &pieces{b, func() int { return 1448 }},
		"random":     &pieces{b, func() int { return 1 + r.IntN(3000) }},
	}
}
